"""How weights travel from the learner to the rollout engines: one interface, an implementation a file."""
