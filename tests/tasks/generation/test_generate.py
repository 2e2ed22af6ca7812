import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks.support import template_model_server as template_model
from curation.prompts.plan import PromptSettings
from heirloom.chat import parse_chat_text
from storage.artifacts.artifact import Artifact, DriftError, read_manifest, read_table
from storage.artifacts.ids import text_hash
from storage.artifacts.schemas import DECISIONS
from tasks.backends import (
    Completion,
    NgramTraining,
    Progress,
    Prompt,
    Resources,
    Sampler,
    Sampling,
    TrainingCorpus,
    TrainJob,
)
from tasks.backends.registry import Backends
from tasks.context import CuratedCandidates
from tasks.generation.generate import PART, generate
from tests.support.openai_server import Reply, answering, echo
from tests.tasks.conftest import PublishCandidates, StartedRun

_SAMPLING = Sampling(sampler="ngram", max_tokens=12)
_MANY = PromptSettings(prompts_per_human_record=10)


@dataclass
class _Watched:
    """The real sampler, which can be cut off, and remembers how many texts it was asked for."""

    backends: Backends
    most: int = 1_000_000
    fails: bool = True
    asked: list[int] = field(default_factory=list)
    count: int = 0
    on_text: Callable[[int], None] = lambda _: None

    def sampler(self, sampling: Sampling) -> Sampler:
        self._sampler = self.backends.sampler(sampling)
        return self

    def sample(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        self.asked.append(len(prompts))
        for answer in self._sampler.sample(model, prompts, progress):
            self.count += 1
            self.on_text(self.count)
            if self.count > self.most:
                if self.fails:
                    raise ConnectionError("the lights went out")
                return
            yield answer


def _generate(
    started: StartedRun, backends: Backends | _Watched, prompts: PromptSettings = _MANY, sampling: Sampling = _SAMPLING
) -> Artifact:
    ctx = replace(started.context(1, prompts=prompts, generate=sampling, seed=7), backends=backends)
    return generate(ctx, started.human, started.history(), started.model)


def test_as_many_candidates_are_made_as_the_prompts_ask_for(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("tiny")
    reserve = read_manifest(started.human.train.folder)["rows"]
    made = _generate(started, backends, PromptSettings(prompts_per_human_record=0.5))
    assert read_manifest(made.folder)["rows"] == read_table(made.folder).num_rows == round(reserve * 0.5)


def test_a_candidate_records_its_prompt_parent_seed_and_model(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("tiny")
    prompts = PromptSettings(template_name="prefix", prefix_words=3)
    rows = read_table(_generate(started, backends, prompts).folder).to_pylist()
    texts = {row["id"]: row["text"] for row in read_table(started.human.train.folder).to_pylist()}
    assert [row["id"] for row in rows] == [f"g001-{serial:07d}" for serial in range(len(rows))]
    assert len({row["seed"] for row in rows}) == len(rows)
    for row in rows:
        (parent,) = row["parents"]
        assert row["prompt"] == " ".join(texts[parent].split()[:3])
        assert row["text"].startswith(row["prompt"])
        assert row["text_hash"] == text_hash(row["text"])
        assert (row["origin"], row["source_generation"], row["model_fingerprint"]) == (
            "synthetic",
            1,
            started.model.fingerprint,
        )
        assert (row["prompt_template"], row["source"]) == ("prefix", "letters.jsonl")
        assert row["parameters"]["max_tokens"] == 12
    assert {row["parents"][0] for row in rows} == set(texts)


def test_a_stored_seed_generates_the_stored_text_again(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("tiny")
    row = read_table(_generate(started, backends, PromptSettings()).folder).to_pylist()[5]
    (again,) = backends.sampler(_SAMPLING).sample(started.model.folder, [Prompt("", row["seed"])], lambda *_: None)
    assert again.text == row["text"]
    assert again.sum_logprob == row["sum_logprob"]


def test_what_is_finished_is_not_made_again(start_run: Callable[[str], StartedRun], backends: Backends) -> None:
    started, watched = start_run("tiny"), _Watched(backends)
    first = _generate(started, watched, PromptSettings())
    assert _generate(started, watched, PromptSettings()) == first
    assert len(watched.asked) == 1


def test_other_settings_in_the_same_place_are_refused(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("tiny")
    _generate(started, backends, PromptSettings())
    with pytest.raises(DriftError, match=r"settings\.sampling\.temperature was 1\.0, is now 0\.5"):
        _generate(started, backends, PromptSettings(), _SAMPLING.model_copy(update={"temperature": 0.5}))


def test_an_interrupted_generation_goes_on_behind_its_last_whole_part(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("cut")
    count = 10 * read_manifest(started.human.train.folder)["rows"]
    assert PART + 100 < count < 2 * PART
    with pytest.raises(ConnectionError, match="the lights went out"):
        _generate(started, _Watched(backends, most=PART + 50))
    folder = started.attempt(1).folder
    assert not (folder / "candidates").exists()
    assert [path.name for path in (folder / ".candidates.draft").glob("part-*")] == ["part-00000.parquet"]
    watched = _Watched(backends)
    resumed = _generate(started, watched)
    assert watched.asked == [count - PART]
    whole = _generate(start_run("whole"), backends)
    assert read_table(resumed.folder).equals(read_table(whole.folder))
    assert read_manifest(resumed.folder)["facts"]["resumed_after"] == PART


@pytest.mark.parametrize("most", [300, PART + 50])
def test_a_sampler_that_falls_short_is_an_error_after_which_one_can_go_on(
    start_run: Callable[[str], StartedRun], backends: Backends, most: int
) -> None:
    started = start_run("short")
    count = 10 * read_manifest(started.human.train.folder)["rows"]
    with pytest.raises(
        ValueError, match=rf"the sampler returned {most} of {count} candidates\. Run the same command again"
    ):
        _generate(started, _Watched(backends, most=most, fails=False))
    resumed = _generate(started, backends)
    assert read_table(resumed.folder).num_rows == count


def test_a_whole_number_of_parts_leaves_the_worker_alive(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("tiny")
    reserve = read_manifest(started.human.train.folder)["rows"]
    with backends.pool.lease("ngram", None) as before:
        pass
    made = _generate(started, backends, PromptSettings(prompts_per_human_record=PART / reserve))
    assert read_manifest(made.folder)["rows"] == PART
    with backends.pool.lease("ngram", None) as after:
        assert after is before


def test_a_grid_is_delivered_with_its_attributes_and_tops_up_what_curation_left_short(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, backends: Backends
) -> None:
    started = start_run("tiny")
    prompts = PromptSettings.model_validate(
        {
            "template_name": "template",
            "template": "The {kind}",
            "attributes": {"kind": ["old", "quiet"]},
            "output_format": "prompt_and_completion",
        }
    )
    sections = {"prompts": prompts, "generate": _SAMPLING}
    first = generate(started.context(1, **sections), started.human, started.history(), started.model)
    rows = read_table(first.folder).to_pylist()
    assert all(row["text"].startswith(row["prompt"]) for row in rows)
    asked = Counter(dict(row["attributes"])["kind"] for row in rows)
    assert abs(asked["old"] - asked["quiet"]) <= 1
    decisions = started.attempt(1).artifact("decisions", {"by": "hand"}, candidates=first)
    with decisions.draft() as draft:
        decided = [
            {"id": row["id"], "filter": "exact", "kept": dict(row["attributes"])["kind"] == "old", "reason": ""}
            for row in rows
        ]
        draft.write_part(pa.Table.from_pylist(decided, schema=DECISIONS))
    curated = CuratedCandidates(candidates=first, decisions=decisions)
    second = generate(started.context(2, **sections), started.human, started.history(curated), started.model)
    again = Counter(dict(row["attributes"])["kind"] for row in read_table(second.folder).to_pylist())
    assert again["quiet"] - again["old"] == pytest.approx(asked["old"], abs=1)


def test_an_answer_alone_is_the_record_and_its_prompt_and_parents_are_kept(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("tiny")
    prompts = PromptSettings(template_name="rephrase", prompts_per_human_record=0.1)
    ctx = started.context(1, prompts=prompts, generate=_SAMPLING)
    rows = read_table(generate(ctx, started.human, started.history(), started.model).folder).to_pylist()
    human = {row["id"]: row["text"] for row in read_table(started.human.train.folder).to_pylist()}
    assert rows
    for row in rows:
        (parent,) = row["parents"]
        assert human[parent] in row["prompt"]
        assert not row["text"].startswith("Say the following")
        assert row["prompt_template"] == "rephrase"


def test_the_facts_count_how_texts_ended(start_run: Callable[[str], StartedRun], backends: Backends) -> None:
    made = _generate(start_run("tiny"), backends, sampling=_SAMPLING.model_copy(update={"max_tokens": 20}))
    ends = read_table(made.folder, ["finish_reason"])["finish_reason"].to_pylist()
    assert read_manifest(made.folder)["facts"]["finish_reasons"] == {end: ends.count(end) for end in ("length", "stop")}
    assert min(ends.count("length"), ends.count("stop")) > 10


def test_candidates_of_a_teacher_name_it_and_do_not_depend_on_the_model(
    start_run: Callable[[str], StartedRun], tmp_path: Path
) -> None:
    started = start_run("taught")
    prompts = PromptSettings(template_name="prefix", prefix_words=2)

    with answering(lambda body, _: echo(body, model="tiny-2026")) as talk:
        site = Backends(Resources(server_urls=(talk.address,)), tmp_path / "logs")
        made = _generate(started, site, prompts, Sampling(sampler="ngram", teacher="tiny"))
        site.close()
    rows = read_table(made.folder).to_pylist()
    assert len(rows) == read_manifest(started.human.train.folder)["rows"]
    assert {row["text"] for row in rows} == {f"{row['prompt']} {row['prompt']} seed {row['seed']}" for row in rows}
    assert {row["model_fingerprint"] for row in rows} == {"tiny-2026"}
    manifest = read_manifest(made.folder)
    assert manifest["facts"]["teachers"] == {"tiny-2026": len(rows)}
    assert set(manifest["parents"]) == {"human_train"}
    assert manifest["settings"]["sampling"]["teacher"] == "tiny"


def test_several_teachers_are_asked_one_after_another_and_each_candidate_names_its_own(
    start_run: Callable[[str], StartedRun], tmp_path: Path
) -> None:
    started = start_run("taught")
    prompts = PromptSettings(template_name="prefix", completions_per_prompt=2)
    with answering(models=["wise", "other"]) as talk:
        site = Backends(
            Resources.model_validate(
                {"server_urls": [talk.address], "local_models": {"near": str(started.model.folder)}}
            ),
            tmp_path / "logs",
        )
        several = Sampling(sampler="ngram", teachers=("wise", "near", "self"), max_tokens=8)
        made = _generate(started, site, prompts, several)
        site.close()
    rows = read_table(made.folder).to_pylist()
    reserve = read_manifest(started.human.train.folder)["rows"]
    assert len(rows) == 2 * reserve
    assert max(Counter(row["teacher"] for row in rows).values()) - len(rows) / 3 < 2
    assert set(Counter(row["prompt_id"] for row in rows).values()) == {2}
    who = {row["teacher"]: row["model_fingerprint"] for row in rows}
    assert who["wise"] == "wise"
    assert who["near"].startswith("near:")
    assert who[None] == started.model.fingerprint
    assert all(row["text"].endswith(f"seed {row['seed']}") for row in rows if row["teacher"] == "wise")
    assert sum(read_manifest(made.folder)["facts"]["teachers"].values()) == len(rows)
    assert set(read_manifest(made.folder)["parents"]) == {"model", "human_train"}


def test_an_interrupted_generation_of_several_teachers_goes_on_with_whose_turn_it_is(
    start_run: Callable[[str], StartedRun], tmp_path: Path
) -> None:
    prompts = PromptSettings(template_name="prefix", completions_per_prompt=9)
    taught = Sampling(sampler="ngram", teachers=("near", "self"), max_tokens=6)

    def site(started: StartedRun) -> Backends:
        return Backends(
            Resources.model_validate({"local_models": {"near": str(started.model.folder)}}), tmp_path / "logs"
        )

    cut = start_run("cut")
    with pytest.raises(ConnectionError):
        _generate(cut, _Watched(site(cut), most=PART + 20), prompts, taught)
    whole, resumed = (
        read_table(_generate(one, site(one), prompts, taught).folder) for one in (start_run("whole"), cut)
    )
    assert resumed.drop_columns("model_fingerprint").equals(whole.drop_columns("model_fingerprint"))
    assert len(resumed) > PART


def test_a_teacher_asked_by_chat_leaves_conversations(start_run: Callable[[str], StartedRun], tmp_path: Path) -> None:
    started = start_run("taught")
    with answering() as talk:
        site = Backends(Resources(server_urls=(talk.address,)), tmp_path / "logs")
        taught = Sampling(sampler="ngram", teacher="tiny", teacher_api="chat")
        made = _generate(started, site, PromptSettings(template_name="distill"), taught)
        site.close()
    rows = read_table(made.folder).to_pylist()
    human = {row["id"]: row["text"] for row in read_table(started.human.train.folder).to_pylist()}
    for row in rows:
        (parent,) = row["parents"]
        asked, answered = parse_chat_text(row["text"])
        assert asked == {"role": "user", "content": human[parent]}
        assert answered == {"role": "assistant", "content": f"{human[parent]} seed {row['seed']}"}
        assert json.loads(row["messages"]) == [asked, answered]
    assert {row["prompt_template"] for row in rows} == {"distill"}


def test_underrepresented_topics_steer_the_next_generation(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, backends: Backends
) -> None:
    started = start_run("tiny")
    prompts = PromptSettings.model_validate(
        {
            "template_name": "prefix",
            "prompts_per_human_record": 0.3,
            "topic_steering": {"num_topics": 4, "encoder": "hashing"},
        }
    )
    human = [row["text"] for row in read_table(started.human.train.folder).to_pylist()]
    history = started.history(publish_candidates(started.attempt(1), human[:40]))
    ctx = started.context(2, prompts=prompts, generate=_SAMPLING, seed=7)
    made = generate(ctx, started.human, history, started.model)
    topics = read_table(started.attempt(2).folder / "topics").to_pylist()
    assert sum(topic["synthetic_count"] for topic in topics) == 40
    asked = Counter(int(dict(row["attributes"])["topic"]) for row in read_table(made.folder).to_pylist())
    for topic in topics:
        wanted = topic["prompt_share"] * asked.total()
        assert abs(asked[topic["topic"]] - min(wanted, topic["human_count"])) <= 1 + max(
            0, wanted - topic["human_count"]
        )
    assert {"topics", "decisions_0"} <= set(read_manifest(made.folder)["parents"])
    assert generate(ctx, started.human, history, started.model) == made


_TAUGHT = Sampling(sampler="ngram", teacher="tiny")
_TROUBLES = (
    Reply(500, {"error": {"message": "oh"}}),
    Reply(429, b""),
    Reply(200, b"<html>garbage</html>"),
    Reply(200, {"choices": [{"text": "half"}]}, cut=True),
    Reply(seconds=1.5),
)


def _troubled(body: dict[str, Any], turn: int) -> Reply:
    """One of eleven requests meets each trouble, once."""
    place = body["seed"] % 11
    return _TROUBLES[place] if turn == 0 and place < len(_TROUBLES) else echo(body)


def test_servers_that_misbehave_cost_no_candidate_and_give_none_twice(
    start_run: Callable[[str], StartedRun], tmp_path: Path
) -> None:
    tables = []
    for name, behavior in (("plain", lambda body, _: echo(body)), ("troubled", _troubled)):
        with answering(behavior) as talk:
            site = Backends(Resources(server_urls=(talk.address,), request_timeout_s=1.0), tmp_path / name)
            made = _generate(start_run(name), site, PromptSettings(template_name="prefix"), _TAUGHT)
            tables.append(read_table(made.folder).drop_columns("model_fingerprint"))
            site.close()
    assert tables[0].num_rows > 100
    assert tables[0].equals(tables[1])


def test_a_server_that_is_killed_costs_a_part_at_most(start_run: Callable[[str], StartedRun], tmp_path: Path) -> None:
    started, prompts = start_run("killed"), PromptSettings(template_name="prefix", completions_per_prompt=12)
    with ExitStack() as stack:
        servers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.openai_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for server in servers:
            stack.callback(server.communicate)
            stack.callback(server.kill)
        addresses = [server.stdout.readline().strip() for server in servers if server.stdout]

        def killing(some: int) -> None:
            if some > PART + 20:
                servers[0].kill()

        site = Backends(
            Resources(server_urls=(addresses[0],), server_unavailable_timeout_s=1.0, max_concurrent_requests=8),
            tmp_path / "first",
        )
        with pytest.raises(ValueError, match=rf"No server responded for 1 s: {addresses[0]}.*Connect"):
            _generate(started, _Watched(site, on_text=killing), prompts, _TAUGHT)
        site.close()
        other = Backends(Resources(server_urls=(addresses[1],)), tmp_path / "other")
        watched = _Watched(other)
        rows = read_table(_generate(started, watched, prompts, _TAUGHT).folder).to_pylist()
        other.close()
    assert watched.asked == [len(rows) - PART * (1 + (len(rows) - watched.asked[0] - 1) // PART)]
    assert PART <= len(rows) - watched.asked[0] < len(rows)
    assert [row["id"] for row in rows] == [f"g001-{serial:07d}" for serial in range(len(rows))]
    assert all(row["text"] == f"{row['prompt']} {row['prompt']} seed {row['seed']}" for row in rows)


def headers(reserve: Sequence[str], count: int, seed: int) -> list[tuple[str, dict[str, str]]]:
    rng = random.Random(seed + len(reserve))
    asked = [{name: rng.choice(values) for name, values in template_model.GRID.items()} for _ in range(count)]
    return [(template_model.header(one), one) for one in asked]


_GRID = {"template_name": "template", "template": "{subject} {format} {length} :", "attributes": template_model.GRID}


@pytest.mark.parametrize(
    "program", [_GRID, {"template_name": "tests.tasks.generation.test_generate:headers"}], ids=["grid", "own"]
)
def test_a_model_of_the_templates_delivers_the_requested_attributes(
    start_run: Callable[[str], StartedRun], backends: Backends, program: dict[str, Any]
) -> None:
    started, rng = start_run("honest"), random.Random(0)
    model = started.attempt(1).artifact("model", {"trained_on": "templates"})
    records = [template_model.human_record(rng) for _ in range(1200)]
    with model.draft() as draft:
        corpus = TrainingCorpus(records, [])
        job = TrainJob(settings=NgramTraining(order=5), corpus=corpus, folder=draft.folder, seed=0)
        backends.trainer().train(job, lambda *_: None)
    prompts = PromptSettings.model_validate({**program, "prompts_per_human_record": 2})
    sampling = _SAMPLING.model_copy(update={"max_tokens": 40, "temperature": 0.6})
    ctx = started.context(1, prompts=prompts, generate=sampling)
    made = generate(ctx, started.human, started.history(), model)
    rows = read_table(made.folder).to_pylist()
    hits = Counter(
        name
        for row in rows
        for name, delivered in template_model.delivered(row["text"]).items()
        if delivered == dict(row["attributes"]).get(name)
    )
    assert hits["subject"] > 0.85 * len(rows)
    assert hits["format"] > 0.85 * len(rows)
    assert all(row["prompt"] == template_model.header(dict(row["attributes"])) for row in rows)
