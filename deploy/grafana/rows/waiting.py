"""Who waits for whom?"""

from panels import NUMBER, RUN, SHARE, TOKENS, Curve, Panel, Row, logged, over_actors, words

ROW = Row(
    "Who waits for whom?",
    [
        Panel(
            "At work",
            SHARE,
            [Curve(f"avg by (service) (ray_agrl_actor_busy_share{RUN})", "{{service}}")],
            "Share of the time in which an actor of the service was in a call. In a synchronous step engines and "
            "learner take turns: together near 1; beside each other (`trainer.max_staleness=1`) up to 2. Both low: the "
            "driver or the network holds them up.",
        ),
        Panel(
            "Engines at work",
            SHARE,
            over_actors("busy_share", "rollout", "Least far under most: one engine holds up the others."),
        ),
        Panel(
            "Requests",
            NUMBER,
            [
                Curve(
                    f"sum by (service) (ray_agrl_actor_queue_length{RUN})",
                    "waiting in {{service}}",
                    "Not begun, in the engines. Always above 0: `rollout.max_concurrent` or the KV cache is too small.",
                ),
                Curve(f"sum(ray_agrl_actor_running{RUN})", "being answered", "Samples that are being decoded."),
                Curve(
                    f"sum by (service) (ray_agrl_pool_queue_length{RUN})",
                    "given to {{service}}",
                    "Pieces of work that are not finished. Growing: more `reward.actors`.",
                ),
            ],
        ),
        Panel(
            "Tokens a second of an engine",
            TOKENS,
            over_actors(
                "tokens_per_s",
                "rollout",
                "Of samples that are being decoded, too. One far under the others: look at its host.",
            ),
        ),
        Panel(
            "Engines that wait",
            SHARE,
            [
                logged("rollout/idle_share", "waiting"),
                logged("rollout/least_share", "work of the slowest, over an equal share"),
                logged("rollout/copied_share", "requests given to a second one"),
            ],
        ),
        Panel(
            "The slowest engines",
            TOKENS,
            [Curve(f"bottomk(5, ray_agrl_actor_tokens_per_s{RUN})", "{{actor}} on {{host}}")],
            "Always the same one while the others work: its host is slow, or has something else to do.",
        ),
        Panel(
            "KV cache in use",
            SHARE,
            over_actors("kv_cache_share", "rollout", "At 1: samples are thrown out and computed again."),
        ),
        Panel(
            "Actors",
            NUMBER,
            [
                Curve(f"count by (service) (ray_agrl_pool_restarts{RUN})", "{{service}}, wanted"),
                Curve(f"count by (service) (ray_agrl_actor_busy_share{RUN})", "{{service}}, alive"),
                Curve(f"count by (service) (ray_agrl_pool_state{RUN} == 2)", "{{service}}, serving"),
            ],
            "Fewer alive than wanted for longer than a start takes: an actor or its host is gone.",
        ),
        Panel(
            "Restarts",
            NUMBER,
            [Curve(f"sum by (service) (ray_agrl_pool_restarts{RUN})", "{{service}}")],
            words("actors/rollout_restarts"),
        ),
    ],
)
