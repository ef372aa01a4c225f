"""TRL's GRPOTrainer on a workload of benchmarks/vs_trl.py: trains as many steps as standard input asks for, then waits.

Run by benchmarks/vs_trl.py, in a process of its own. One line of JSON on standard output answers each line of input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

VLLM = {  # as AGRL's own engines are set up on a CPU: TRL gets the same
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "GOMP_SPINCOUNT": "30000",
}


def main() -> None:
    job = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print goes to the log
    on_cpu = job["device"] == "cpu"
    threads = max(1, job["threads"] // job["processes"])
    os.environ.update(VLLM if job["generation"] == "vllm" and on_cpu else {}, OMP_NUM_THREADS=str(threads))
    if on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    import torch

    torch.set_num_threads(threads)
    trainer = make_trainer(job, answers)
    trainer.train()


def make_trainer(job: dict[str, Any], answers) -> Any:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from agrl.config.compose import load_config
    from agrl.data.files import read_examples
    from agrl.driver.services.prompt_encoder import PromptEncoder
    from agrl.models.tokens import load_tokenizer
    from agrl.relevance.records import Order
    from agrl.relevance.reward import Scorer
    from agrl.relevance.rulebook import load_rulebook

    config = load_config(job["overrides"])
    book, tokenizer = load_rulebook(config.task.rulebook), load_tokenizer(config.model.path)
    scorer = Scorer(book, Order.think_then_respond)
    encoder = PromptEncoder.load(config)
    examples = {example.id: example for example in read_examples(config.data.train)}
    rows = [{"prompt": tokenizer.decode(encoder.prompt(e)), "example": e.id} for e in examples.values()]

    def reward(prompts, completions, completion_ids, example, **_):
        ended = [tokenizer.eos_token_id in ids for ids in completion_ids]
        return [
            scorer.score(examples[e], text, "stop" if end else "length").total
            for e, text, end in zip(example, completions, ended, strict=True)
        ]

    class Timed(GRPOTrainer):
        """With the seconds of each phase."""

        seconds: dict[str, float]

        def _generate(self, *args, **kwargs):
            return self._timed("rollout", super()._generate, *args, **kwargs)

        def _calculate_rewards(self, *args, **kwargs):
            found = self._timed("score", super()._calculate_rewards, *args, **kwargs)
            self.rewards.append(float(found.mean()))
            return found

        def training_step(self, *args, **kwargs):
            before = sum(self.seconds.values())
            begin = time.perf_counter()
            loss = super().training_step(*args, **kwargs)
            inside = sum(self.seconds.values()) - before
            self.seconds["learn"] = self.seconds.get("learn", 0.0) + time.perf_counter() - begin - inside
            return loss

        def _timed(self, phase, call, *args, **kwargs):
            begin = time.perf_counter()
            found = call(*args, **kwargs)
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - begin
            return found

    class Pace(TrainerCallback):
        """Waits for the word to go on, and tells how each step went."""

        left, begin = 0, 0.0

        def on_step_begin(self, args, state, control, **_):
            if self.left == 0:
                self.left = steps_asked_for()
                if not self.left:
                    os._exit(0)
            trainer.seconds, trainer.rewards = {}, []
            self.begin = time.perf_counter()

        def on_step_end(self, args, state, control, **_):
            self.left -= 1
            seconds = time.perf_counter() - self.begin
            row = {"seconds": seconds, "phases": trainer.seconds, "reward": trainer.rewards[-1]}
            if state.is_world_process_zero:
                answers.write(json.dumps(row) + "\n")

    batch = job["prompts"] * job["rollouts"]
    micro = job["micro_batch"]
    args = GRPOConfig(
        output_dir=str(Path(job["folder"]) / "trl"),
        use_cpu=job["device"] == "cpu",
        bf16=job["device"] == "cuda",
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro // job["processes"],
        steps_per_generation=batch // micro // job["processes"],
        ddp_backend="gloo" if job["processes"] > 1 and job["device"] == "cpu" else None,
        num_generations=job["rollouts"],
        max_completion_length=job["response"],
        max_steps=10_000,
        learning_rate=config.learner.lr,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        adam_beta2=0.99,
        max_grad_norm=config.learner.max_grad_norm,
        beta=0.0,
        epsilon=config.learner.clip_low,
        epsilon_high=config.learner.clip_high,
        loss_type="dapo",
        temperature=1.0,
        use_vllm=job["generation"] == "vllm",
        use_transformers_continuous_batching=job["generation"] == "continuous",
        vllm_mode="colocate",
        vllm_max_model_length=config.task.max_prompt_tokens + config.task.max_response_tokens,
        vllm_gpu_memory_utilization=config.rollout.gpu_memory_utilization,
        gradient_checkpointing=False,
        dataloader_num_workers=0,
        logging_steps=1_000_000,
        save_strategy="no",
        report_to=[],
        seed=0,
        disable_dropout=True,
    )
    trainer = Timed(config.model.path, reward, args, Dataset.from_list(rows), processing_class=tokenizer)
    trainer.seconds, trainer.rewards = {}, []
    trainer.add_callback(Pace())
    if trainer.is_world_process_zero():
        answers.write(json.dumps({"ready": True}) + "\n")
    return trainer


def steps_asked_for() -> int:
    """The next number on the first process's standard input, 0 at its end; the other processes wait for it."""
    import torch.distributed as dist

    among_others = dist.is_available() and dist.is_initialized()
    word = [sys.stdin.readline() if not among_others or dist.get_rank() == 0 else ""]
    if among_others:
        dist.broadcast_object_list(word)
    return int(word[0] or 0)


if __name__ == "__main__":
    main()
