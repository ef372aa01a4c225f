"""Is it learning?"""

from panels import NUMBER, RUN, SECONDS, SHARE, Curve, Panel, Row, held_out, logged, words

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
            "Held-out sets",
            SHARE,
            [
                held_out("macro_f1", "macro-F1, {{set}}"),
                held_out("accuracy", "accuracy, {{set}}"),
                held_out("rule_adherence", "rule adherence, {{set}}"),
            ],
            "Before the first step, every `trainer.evaluate_every` steps and at the end; flat in between. Falling "
            "while *Right answers* rise: the policy learns its prompts, or to please the reward.",
        ),
        Panel(
            "Held-out sets by tier",
            SHARE,
            [Curve('{__name__=~"ray_agrl_eval_tier_f1_.",run="$run"}', "{{__name__}}, {{set}}", words("tier_f1"))],
            "One that falls to 0 is a tier that the policy has given up.",
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
