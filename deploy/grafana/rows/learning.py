"""Is it learning?"""

from panels import NUMBER, RUN, SECONDS, SHARE, Curve, Panel, Row, logged

ROW = Row(
    "Is it learning?",
    [
        Panel(
            "Right answers",
            SHARE,
            [
                logged("train/accuracy", "accuracy"),
                logged("train/rule_adherence", "rule adherence"),
                logged("train/parse_rate", "parsed"),
                logged("train/right_tier_wrong_verdict", "right tier, wrong verdict"),
            ],
            "Of the rollouts in training, whose prompts the replay chose: below the held-out accuracy.",
        ),
        Panel(
            "Reward",
            NUMBER,
            [logged("reward/total_mean", "mean"), logged("reward/total_std", "standard deviation")],
        ),
        Panel(
            "Reward by component",
            SHARE,
            [
                Curve(
                    '{__name__=~"ray_agrl_reward_.+_mean",__name__!="ray_agrl_reward_total_mean",run="$run"}',
                    "{{__name__}}",
                )
            ],
            "`tier` that rises without the criteria: right for the wrong reason.",
        ),
        Panel(
            "Progress",
            SHARE,
            [Curve(f"ray_agrl_run_step{RUN} / ray_agrl_run_steps{RUN}", "{{phase}}")],
            "Steps done of those asked for. Flat: no step ends, see *Seconds since the last step*.",
        ),
        Panel(
            "Time left",
            SECONDS,
            [
                Curve(
                    f"(ray_agrl_run_steps{RUN} - ray_agrl_run_step{RUN}) * ray_agrl_time_step{RUN}",
                    "{{phase}}",
                )
            ],
            "Steps left, times the seconds of the last one; without evaluations and the export.",
        ),
    ],
)
