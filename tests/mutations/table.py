"""The mutations: a source, the text of a line in it, what it becomes, and the tests that must notice."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """One change of one line."""

    source: str
    old: str
    """Text that is in the source exactly once."""
    new: str
    excuse: str = ""
    """Why no test can notice."""


TESTS: dict[str, list[str]] = {
    "trainables/training.py": ["tests/trainables/test_training.py", "tests/trainables/test_parallel.py"],
    "trainables/scoring.py": ["tests/trainables/test_scoring.py"],
    "trainables/parallel.py": ["tests/trainables/test_parallel.py"],
    "trainables/crew.py": ["tests/trainables/test_crew.py"],
    "trainables/checkpoint.py": ["tests/trainables/test_checkpoint.py"],
    "trainables/noise.py": ["tests/trainables/test_noise.py"],
    "trainables/output.py": ["tests/trainables/test_output.py"],
    "trainables/optim.py": ["tests/trainables/test_optim.py"],
    "trainables/metrics.py": ["tests/trainables/test_metrics.py"],
    "trainables/schedules.py": ["tests/trainables/test_schedules.py"],
    "study/search/stopping.py": ["tests/study/search/test_stopping.py"],
    "study/search/searcher.py": ["tests/study/search/test_search*.py"],
    "study/search/storage.py": [
        "tests/study/search/test_best_trials.py",
        "tests/study/search/test_search.py",
        "tests/study/search/test_storage.py",
    ],
    "study/search/strategies.py": ["tests/study/search/test_search.py", "tests/study/search/test_strategies.py"],
    "study/search/proposal.py": ["tests/study/search/test_search.py", "tests/study/search/test_proposal.py"],
    "study/search/tune.py": ["tests/study/search/test_tune.py"],
    "data/loader.py": ["tests/data/test_loader.py"],
    "data/shards.py": ["tests/data/test_shards.py"],
    "data/spec.py": ["tests/data/test_spec.py"],
}
"""Source -> patterns of the files with its own tests, in the order in which they run."""

CHANGES: dict[str, list[tuple[str, ...]]] = {
    "trainables/training.py": [
        ("group[\"lr\"] = peak * scales[i if len(scales) > 1 else 0]", "group[\"lr\"] = peak * scales[0]"),
        ("[[group[\"lr\"] for group in optimizer", "[[optimizer.param_groups[0][\"lr\"] for group in optimizer"),
        ("optimizer.zero_grad(set_to_none=True)", "pass"),
        ("limit = self.model.clip_norm() or math.inf", "limit = math.inf"),
        ("self._drop_gradient(~norms[-1].isfinite())", "pass"),
        ("                _check_finite(\"gradient norm\", torch.stack(norms))\n", ""),
        ("_check_finite(\"training loss\", output.loss[None])", "pass"),
        ("if done % CHECK_EVERY == 0 or done == steps:", "if done == steps:"),
        ("if done % CHECK_EVERY == 0 or done == steps:", "if done % CHECK_EVERY == 0:"),
        ("self.model.after_step(self.step, output)", "pass"),
        ("            self.step += 1\n", "            self.step += 2\n"),
        ("        self.model.train()\n", "        self.model.eval()\n"),
        ("if self.step == 0:", "if True:"),
        ("return {name: float(value) / steps for", "return {name: float(value) for"),
        ("self.noise.set_state(before)  # every part", "pass  # every part"),
        ("share = len(part) / len(rows)", "share = 1 / len(parts)"),
        ("_add(sums, output, share)", "_add(sums, output)"),
        ("* self.team.size).backward()", ").backward()"),
        ("sums = self.team.total(sums, self.device)", "pass"),
        ("        self.model.on_validation(means)\n", ""),
        ("except metrics.NotFinite:", "except KeyError:"),
        ("if end > self.step), len(ends))", "if end >= self.step), len(ends))"),
        ("round(i * self.task.steps / self.task.reports)", "i * (self.task.steps // self.task.reports)"),
        ("\"done\": self.step >= self.task.steps", "\"done\": self.step > self.task.steps"),
        ("_spread(len(split), self.task.validation_images)", "np.arange(min(self.task.validation_images, len(split)))"),
        ("            optimizer.load_state_dict(saved)\n", "            pass\n"),
        ("self.noise.set_state(state[\"noise\"].cpu())", "pass"),
        ("self.shuffle.load_state_dict(state[\"shuffle\"])", "pass"),
        ("        self.step = state[\"step\"]\n", ""),
        ("        changed = [key for key", "        changed = [key for key in []] and [key for key"),
        ("torch.manual_seed(int(seeds[0]))", "torch.manual_seed(0)"),
        ("with torch.random.fork_rng(devices=[device] if device.type == \"cuda\" else []):", "with nullcontext():"),
        ("SeedSequence([task.seed, number])", "SeedSequence([task.seed])"),
        ("is not SegmentationModel.initialise:", "is not None:"),
    ],
    "trainables/scoring.py": [
        ("    model.eval()\n", ""),
        ("torch.no_grad(), noise.drawn_from", "noise.drawn_from"),
        ("torch.Generator(device).manual_seed(0)", "torch.Generator(device).manual_seed(torch.seed() % 99)"),
        ("        model.train(was_training)\n", "        pass\n"),
        ("split.gather(rows[chosen])", "split.gather(chosen)"),
        ("output.masks.argmax(1)", "output.masks.argmin(1)"),
        ("    model.load_state_dict(state[\"weights\"])\n", ""),
    ],
    "trainables/parallel.py": [
        ("dist.all_reduce(stacked)", "pass"),
        ("dist.broadcast_object_list(answer)", "pass"),
        ("compute() if self.rank == 0 else None", "compute()"),
        ("return model if team.size == 1 else Replica(model)", "return model"),
        ("return forward.no_sync() if isinstance(forward, Replica) else nullcontext()", "return nullcontext()",
         "exchanging the gradients of every part adds up to the same"),
        ("min(i, longer)", "0"),
        ("share = _cut(range(batch), self.size)[self.rank]", "share = _cut(range(batch), self.size)[0]"),
        ("batch // self.size))", "batch))"),
        ("wait([f\"{rank} is here\" for rank in range(team.size)])", "wait([])"),
        ("        output.loss = loss\n", ""),
    ],
    "trainables/crew.py": [
        ("            training.load_state(state)\n", "            pass\n"),
        ("ray.get([worker.start.remote(config, shared) for worker in self._others])", "pass"),
        ("ray.get([worker.load.remote(shared) for worker in self._others])", "pass"),
        ("leaving, self._others = self._others, []", "leaving = self._others"),
        ("            ray.kill(worker)\n        parallel.leave()\n", "            ray.kill(worker)\n"),
        ("        except Diverged:\n            pass\n        except", "        except"),
        ("new = not self._others and self.first.team.size > 1", "new = self.first.team.size > 1"),
        ("or \"can't allocate memory\" in str(error)", ""),
    ],
    "trainables/checkpoint.py": [
        ("reverse=True", "reverse=False"),
        ("weights_only=True", "weights_only=False"),
        ("key=lambda path: path.name", "key=lambda path: str(path)"),
        ("except (ValueError, FileNotFoundError):", "except FileNotFoundError:"),
        ("or \"step\" not in state", ""),
        ("{state['step']:09d}", "{state['step']}"),
        ("((\"model\", model), (\"image_size\", image_size))", "((\"model\", model),)"),
    ],
    "trainables/noise.py": [
        ("_source.reset(token)\n\n\n@contextmanager\ndef shared", "pass\n\n\n@contextmanager\ndef shared"),
        ("_Source(_source.get().generator)", "_source.get()"),
        ("_Source(generator, images, batch)", "_Source(generator)"),
        ("return whole[each * images.start : each * images.stop]", "return whole[:rows]"),
        ("torch.randperm(n, generator=_source.get().generator,", "torch.randperm(n,"),
        ("return _draw(torch.rand, shape, like)", "return _draw(torch.randn, shape, like)"),
    ],
    "trainables/output.py": [
        ("self._masks = self._masks()", "return self._masks()"),
        ("assert error < 1e-3", "assert error < 1"),
        ("assert float(masks.min()) >= 0", "assert float(masks.min()) >= -1"),
        ("assert self.presence is not None and self.presence.shape == self.boxes.shape[:2]", "pass"),
    ],
    "trainables/optim.py": [
        ("Adam(parameters, lr=lr, weight_decay=weight_decay)\n        case \"adamw\"",
         "Adam(parameters, lr=lr)\n        case \"adamw\""),
        ("return AdamW(", "return Adam("),
        ("return RMSprop(parameters, lr=lr,", "return RMSprop(parameters,"),
    ],
    "trainables/metrics.py": [
        ("fg_pairs = np.where(has_foreground, num_pairs - 1, 0)", "fg_pairs = np.where(has_foreground, num_pairs, 0)"),
        ("_adjusted_rand(tables.counts[:, 1:])", "_adjusted_rand(tables.counts)"),
        ("square_().sum(1)", "square_().mean(1)"),
        ("maximize=True", "maximize=False"),
        ("return n * (n - 1) // 2", "return n * n // 2"),
        ("best = iou.max(2)", "best = iou.mean(2)"),
        ("values[~np.isnan(values)] for name", "values for name"),
    ],
    "trainables/schedules.py": [
        ("if step >= last:", "if step > last:"),
        ("min(1.0, step / steps)", "step / steps"),
        ("start + (end - start)", "start + end"),
    ],
    "study/search/stopping.py": [
        ("3600 * hours", "60 * hours"),
        ("self._clock() > self._deadline", "False"),
        ("return self.interrupted or", "return"),
        ("self._given_up() or", ""),
        ("signal.signal(number, signal.default_int_handler)", "pass"),
        ("                signal.signal(number, handler)\n", "                pass\n"),
        ("(signal.SIGINT, signal.SIGTERM)", "(signal.SIGINT,)"),
        ("keep_newest=state == \"COMPLETE\"", "keep_newest=True"),
        ("if state != \"RUNNING\":", "if True:"),
        ("key=lambda path: path.name", "key=lambda path: str(path)"),
        ("paths[-1].parent", "paths[0].parent"),
        ("            path.unlink()\n", "            pass\n"),
    ],
    "study/search/searcher.py": [
        ("if len(self._failures) >= GIVE_UP_AFTER:", "if len(self._failures) > GIVE_UP_AFTER:"),
        ("(r for r in self._failures if r == reason)", "self._failures"),
        ("trial for trial in existing if trial.state == TrialState.RUNNING", ""),
        ("self._end(trial_id, TrialState.FAIL, reason=result[\"failure\"])", "self._end(trial_id, TrialState.PRUNED)"),
        ("        if not trial.should_prune():\n", "        if True:\n"),
        ("self.busy_seconds += seconds", "self.busy_seconds = seconds"),
        ("max(peak, before.get(\"gpu_gib\", 0.0))", "peak"),
        ("self.stop_reason = self.stop_reason or reason", "pass"),
    ],
    "study/search/storage.py": [
        ("sign = -1 if", "sign = 1 if"),
        ("\"maximize\" if OBJECTIVES[config.metric] == \"max\" else \"minimize\"", "\"maximize\""),
        ("SeedSequence([config.seed, len(study.get_trials(deepcopy=False))])", "SeedSequence([config.seed])"),
        ("if theirs != mine:", "if False:"),
    ],
    "study/search/strategies.py": [
        ("first = math.ceil(0.2 * reports)", "first = 1"),
        ("bootstrap_count=0", "bootstrap_count=99"),
        ("return optuna.samplers.RandomSampler(seed=seed)", "return optuna.samplers.RandomSampler(seed=0)"),
    ],
    "study/search/proposal.py": [
        ("self.space(FixedKeys(trial, self.fixed), self.base)", "self.space(trial, self.base)"),
        ("{key: values[key] for key in self.known}", "dict(values)"),
        ("**self.fixed}\n", "}\n"),
    ],
    "study/search/tune.py": [
        ("self.max_concurrent = self._places()", "pass"),
        ("bool(trial.metric_analysis), trial.config[\"number\"]", "trial.config[\"number\"]"),
        ("return max(waiting,", "return min(waiting,"),
        ("if trial.status == trial.PENDING]", "]"),
        ("TrialScheduler.STOP if pruned", "TrialScheduler.CONTINUE if pruned"),
    ],
    "data/loader.py": [
        ("side=\"right\"", "side=\"left\""),
        ("default_rng([self._seed, epoch])", "default_rng([self._seed])"),
        ("self._start(self._epoch + 1, 0)", "self._start(self._epoch, 0)"),
        (".div_(255)", ".div_(256)"),
        ("min(first + batch_size, length)", "first + batch_size"),
        ("labels[i] = self._labels[shard][row]", "labels[i] = self._labels[shard][0]"),
        ("permute(0, 3, 1, 2)", "permute(0, 3, 2, 1)"),
    ],
    "data/shards.py": [
        ("max(1, SHARD_BYTES // (4 * size[0] * size[1]))", "max(1, SHARD_BYTES // (3 * size[0] * size[1]))"),
        ("time.time() - info.mtime_ns / 1e9 > _ABANDONED", "True"),
        ("            if count == rows:\n", "            if count >= rows - 1:\n"),
        ("max([max_objects, *(", "max([*("),
        ("if fields.get(\"schema_version\") != SCHEMA_VERSION:", "if False:"),
    ],
    "data/spec.py": [
        ("if len(sizes) > 1:", "if False:"),
        ("if size and min(size) < 1:", "if False:"),
        ("int(pair[1]), int(pair[2])", "int(pair[2]), int(pair[1])"),
        ("text.lower()", "text"),
    ],
}  # fmt: skip
"""Source -> (old text, new text, excuse where no test can notice)."""

MUTATIONS = [Mutation(source, *change) for source, changes in CHANGES.items() for change in changes]
