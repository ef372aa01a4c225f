"""Where does the time go?"""

from panels import RUN, SECONDS, SHARE, TOKENS, Curve, Panel, Row, logged, words

ROW = Row(
    "Where does the time go?",
    [
        Panel(
            "A step by phase",
            SECONDS,
            [
                Curve(
                    '{__name__=~"ray_agrl_time_(sample|rollout|score|guide|learn|wait|broadcast|overhead)",run="$run"}',
                    "{{__name__}}",
                    words("time/<phase>"),
                )
            ],
            stacked=True,
        ),
        Panel("A step", SECONDS, [logged("time/step", "{{phase}}")]),
        Panel(
            "Seconds since the last step",
            SECONDS,
            [Curve(f"time() - ray_agrl_run_last_step_time{RUN}", "{{phase}}")],
            "A saw whose teeth are as high as a step is long. One that goes on rising: the step hangs, or an "
            "evaluation or a checkpoint is being made.",
        ),
        Panel(
            "Tokens a second",
            TOKENS,
            [
                logged("rollout/tokens_per_s", "sampled by all engines"),
                logged("learner/computed_tokens_per_s", "through the learner"),
                logged("learner/useful_tokens_per_s", "trained, without sharing of prompts"),
            ],
        ),
        Panel(
            "Efficiency",
            SHARE,
            [
                logged("rollout/prefix_cache_hits", "prompt tokens from the cache"),
                logged("learner/flop_utilisation", "of the device's operations"),
            ],
        ),
    ],
)
