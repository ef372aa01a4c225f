"""Generation beside training: which side waits, and what it costs that batches are one version old."""

from panels import NATS, NUMBER, RUN, SECONDS, SHARE, Curve, Panel, Row, logged, words

LATELY = f"{RUN}[10m]"
STEP = f"avg_over_time(ray_agrl_time_step{LATELY})"

ROW = Row(
    "Generation beside training",
    [
        Panel(
            "Each side of a step",
            SECONDS,
            [
                Curve(f"ray_agrl_ahead_step{RUN}", "generation", "Of the batch that the step trains on."),
                Curve(f"ray_agrl_time_learn{RUN}", "training"),
                Curve(f"ray_agrl_time_step{RUN}", "the step"),
            ],
            "A step is as long as its longer side and the broadcast. One side far longer: move hosts to it. This row "
            "has curves only with `trainer.max_staleness=1`.",
        ),
        Panel(
            "Who waits",
            SHARE,
            [
                Curve(
                    f"avg_over_time(ray_agrl_time_wait{LATELY}) / {STEP}",
                    "learner, for the next batch",
                    "More engines make it shorter.",
                ),
                Curve(
                    f"clamp_min(1 - avg_over_time(ray_agrl_ahead_step{LATELY}) / {STEP}, 0)",
                    "engines, for weights",
                    "The broadcast itself is in it. More learner ranks make it shorter.",
                ),
            ],
            "Share of the steps of the last ten minutes.",
        ),
        Panel(
            "Generation by phase",
            SECONDS,
            [
                Curve(
                    '{__name__=~"ray_agrl_ahead_(sample|rollout|score|guide|overhead)",run="$run"}',
                    "{{__name__}}",
                    words("ahead/<phase>"),
                )
            ],
            stacked=True,
        ),
        Panel("Age of a batch", NUMBER, [logged("staleness/versions", "weight versions")]),
        Panel("How far the policy has moved meanwhile", NATS, [logged("staleness/kl", "KL")]),
        Panel("Effective sample size of older batches", SHARE, [logged("staleness/ess", "share of the tokens")]),
    ],
)
