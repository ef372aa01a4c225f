"""The rows of the dashboard in their order, each in a file of its own."""

from rows import beside, guidance, healthy, hosts, learning, time_spent, waiting, weights

ROWS = [learning.ROW, healthy.ROW, time_spent.ROW, guidance.ROW, waiting.ROW, beside.ROW, weights.ROW, hosts.ROW]
