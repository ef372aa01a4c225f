"""Guidance and replay: what is guided, what is dropped, and why."""

from panels import NUMBER, RUN, SHARE, Curve, Panel, Row, logged, words

ROW = Row(
    "Guidance and replay",
    [
        Panel(
            "Decisions",
            NUMBER,
            [logged(f"decisions/{kind}", kind, "decisions/keep") for kind in ("keep", "guide", "drop")],
            stacked=True,
        ),
        Panel(
            "Why dropped, why not guided",
            NUMBER,
            [Curve('{__name__=~"ray_agrl_decisions_(drop|unguided)_.+",run="$run"}', "{{__name__}}")],
            words("decisions/unguided/<reason>"),
        ),
        Panel("Guided share", SHARE, [logged("guide/share", "of the batch")]),
        Panel("Guidance", NUMBER, [logged("guide/solved", "solved"), logged("guide/level_mean", "hint level")]),
        Panel(
            "Groups",
            SHARE,
            [
                logged("group/all_wrong", "all wrong"),
                logged("group/all_right", "all right"),
                logged("group/zero_advantage", "nothing to learn from"),
            ],
        ),
        Panel(
            "The pool",
            SHARE,
            [
                Curve(f"ray_agrl_replay_tried{RUN}", "prompts tried", "Flat under 1: some are never drawn."),
                Curve(
                    f"ray_agrl_replay_accuracy_mean{RUN}",
                    "moving accuracy",
                    "Mean over the prompts tried. It lags behind the policy by as long as an epoch takes.",
                ),
            ],
        ),
    ],
)
