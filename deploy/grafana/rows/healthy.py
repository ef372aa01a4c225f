"""Is it healthy?"""

from panels import NATS, NUMBER, RUN, SHARE, TOKENS, Curve, Panel, Row, logged

ROW = Row(
    "Is it healthy?",
    [
        Panel("Loss", NATS, [logged("loss/total", "{{phase}}")]),
        Panel("Gradient norm", NATS, [logged("grad_norm", "{{phase}}")]),
        Panel("Entropy", NATS, [logged("policy/entropy", "entropy")]),
        Panel(
            "Clipped and cut off",
            SHARE,
            [logged("policy/clip_fraction", "clipped tokens"), logged("response/cut_off", "answers cut off")],
        ),
        Panel("Length of an answer", TOKENS, [logged("response/length_mean", "mean tokens")]),
        Panel(
            "Lost numbers",
            NUMBER,
            [
                Curve(
                    f"ray_agrl_run_not_finite{RUN}",
                    "not finite ({{phase}})",
                    "Numbers that were NaN or infinite, since the start. Above 0: one that is a loss or the gradient "
                    "norm ends the run with its name, others are `null` in metrics.jsonl.",
                ),
                logged("reward/invalid", "rollouts without a reward"),
                logged("reward/timeouts", "rollouts not scored in time"),
            ],
        ),
    ],
)
