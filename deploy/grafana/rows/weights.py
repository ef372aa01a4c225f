"""Weights: whether the engines sample from those that the learner has."""

from panels import NATS, NUMBER, RUN, SECONDS, SHARE, Curve, Panel, Row, logged

ROW = Row(
    "Weights",
    [
        Panel(
            "Version",
            NUMBER,
            [
                logged("sync/version", "learner"),
                Curve(f"min(ray_agrl_actor_weight_version{RUN})", "engines, least"),
                Curve(f"max(ray_agrl_actor_weight_version{RUN})", "engines, most"),
            ],
            "Engines behind the learner while they sample: a broadcast was skipped, and the run stops.",
        ),
        Panel(
            "Gap between engines and learner",
            NATS,
            [
                logged("sync/gap_mean", "mean"),
                logged("sync/gap_max", "largest"),
                Curve(
                    f"ray_agrl_run_gap_limit{RUN}", "limit of the mean", "`sync.max_mean_gap`: over it the run stops."
                ),
            ],
        ),
        Panel("Effective sample size", SHARE, [logged("sync/ess", "share of the tokens")]),
        Panel("Broadcast", SECONDS, [logged("time/broadcast", "seconds of a step", "time/<phase>")]),
    ],
)
