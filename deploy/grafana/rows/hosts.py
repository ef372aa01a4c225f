"""Hosts: where the actors are, and what is left of each host."""

from panels import BYTES, NUMBER, RATE, RUN, SHARE, Curve, Panel, Row

ROW = Row(
    "Hosts",
    [
        Panel(
            "Actors of the run",
            NUMBER,
            [Curve(f"count by (host) (ray_agrl_actor_busy_share{RUN})", "{{host}}")],
            "Where they are. A host that falls to nothing is gone, or cut off.",
        ),
        Panel(
            "Memory of the run",
            BYTES,
            [Curve(f"sum by (host) (ray_agrl_actor_memory_bytes{RUN})", "{{host}}")],
            "Resident, of its actors and its driver; shared pages count in each. Rising step after step: a leak.",
        ),
        Panel(
            "Memory in use",
            SHARE,
            [Curve("ray_node_mem_used / ray_node_mem_total", "{{ip}}")],
            "Of the whole host, as Ray counts it. From 0.95 on Ray kills a process.",
        ),
        Panel(
            "CPUs",
            SHARE,
            [Curve("ray_node_cpu_utilization / 100", "{{ip}}")],
            "All of them at 1 on GPU hosts: tokenising, scoring or another job holds up the GPUs.",
        ),
        Panel(
            "Network",
            RATE,
            [
                Curve("ray_node_network_receive_speed", "{{ip}} in"),
                Curve("ray_node_network_send_speed", "{{ip}} out"),
            ],
            "Tall while weights are broadcast. At the link's rate for long: the broadcast is what a step waits for.",
        ),
        Panel(
            "Object store in use",
            BYTES,
            [Curve("sum by (NodeAddress) (ray_object_store_used_memory)", "{{NodeAddress}}")],
            "Weights and batches on their way. Near its size: Ray writes objects to disk.",
        ),
        Panel(
            "Disk in use", SHARE, [Curve("ray_node_disk_utilization_percentage / 100", "{{ip}}")], "At 1 a run ends."
        ),
        Panel(
            "GPUs",
            SHARE,
            [
                Curve("ray_node_gpus_utilization / 100", "{{ip}} GPU {{GpuIndex}}", needs="GPU"),
                Curve(
                    "ray_node_gram_used / (ray_node_gram_used + ray_node_gram_available)",
                    "{{ip}} GPU {{GpuIndex}}, memory",
                    needs="GPU",
                ),
            ],
            "At work, and memory in use. Low while its engine or rank is at work: small batches, or a slow host.",
        ),
    ],
)
