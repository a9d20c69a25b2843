"""Report: complete for a good run, honest about a bad one, unbreakable for a broken one."""

import base64
import html.parser
import itertools
import json
import math
import random
import re
import subprocess
import sys

import pytest

from darts_hpo.errors import RunDirectoryError
from darts_hpo.genotype import Genotype
from darts_hpo.report import Figure, write_report
from darts_hpo.report.figure import drawing, option_colours
from darts_hpo.report.labels import cost_labels
from darts_hpo.report.record import RunRecord
from darts_hpo.report.spread import Spread
from darts_hpo.report.table import results_table
from darts_hpo.report.verdict import commitment, judge, lead, summary
from darts_hpo.runs import EpochLog, EpochTable, RunDirectory
from darts_hpo.runs.provenance import provenance

ALL = None
OPTIONS = [f"{kernel}_{act}" for kernel in ("3x3", "5x5") for act in ("relu", "lrelu", "silu", "mish")]
CHOICES = [f"{part}.p{level}" for part in ("backbone", "neck.up", "neck.down") for level in (3, 4, 5)]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def softmax(logits):
    weights = [math.exp(v) for v in logits]
    return [w / sum(weights) for w in weights]


def search_rows(choices=CHOICES, options=OPTIONS, epochs=20, speed=0.12, seed=0):
    """What a search of a given decisiveness logs: logits drift towards a winner, with noise."""
    rng = random.Random(seed)
    winners = {name: rng.randrange(len(options)) for name in choices}
    logits = {name: [rng.gauss(0, 0.02) for _ in options] for name in choices}
    rows, previous = [], None
    for epoch in range(epochs):
        for name in choices:
            for i in range(len(options)):
                pull = speed * (1.0 if i == winners[name] else 0.4 if i == (winners[name] + 3) % len(options) else 0)
                logits[name][i] += pull + rng.gauss(0, 0.25 * speed)
        shares = {name: dict(zip(options, softmax(logits[name]), strict=True)) for name in choices}
        best = {name: max(share, key=share.get) for name, share in shares.items()}
        entropies = [-sum(p * math.log(p) for p in s.values()) / math.log(len(options)) for s in shares.values()]
        rows.append(
            {
                "epoch": epoch,
                "probabilities": shares,
                "entropy": sum(entropies) / len(entropies),
                "flips": 0 if previous is None else sum(best[n] != previous[n] for n in choices),
                "best": best,
                "indicators": {"small_kernel_share": 0.5 + 0.01 * epoch, "max_hessian": None},
                "costs": {"params": 2.1e6 - 2e4 * epoch, "flops": 4e8 - 6e6 * epoch},
                "score": 0.28 * (1 - math.exp(-epoch / 6)) if epoch % 2 else None,
            }
        )
        previous = best
    return rows


def training_rows(epochs, height, seed):
    rng = random.Random(seed)
    rows = []
    for epoch in range(epochs):
        progress = 1 - math.exp(-3 * epoch / epochs)
        rows.append(
            {
                "epoch": epoch,
                "train/loss": 7.5 - 4.6 * progress + rng.gauss(0, 0.08),
                "train/box": 1.9 - 0.9 * progress + rng.gauss(0, 0.02),
                "train/cls": 3.2 - 2.5 * progress + rng.gauss(0, 0.04),
                "train/dfl": 1.4 - 0.4 * progress + rng.gauss(0, 0.02),
                "val/map50": 1.6 * height * progress + rng.gauss(0, 0.012),
                "val/map50_95": height * progress + rng.gauss(0, 0.008),
                "lr": 0.01 * (1 - epoch / epochs) + 1e-4,
                "seconds": 4.1,
            }
        )
    return rows


def network_metrics(height, seed, genotype):
    rng = random.Random(seed)

    def scores(scale):
        per_class = {n: scale * height * f for n, f in (("RBC", 0.97), ("WBC", 1.35), ("Platelets", 0.68))}
        return {"map50_95": scale * height, "map50": scale * 1.6 * height, "ap": per_class}

    costs = {"params_train": 2_010_432, "params_deployed": 1_912_100 - rng.randrange(90_000), "gflops": 0.412}
    costs["latency_ms"] = 14.2 + rng.random() * 3
    return {"val": scores(1.03), "test": scores(0.98), "costs": costs, "genotype": genotype}


def write_run(path, rows=None, status="COMPLETED", reason=None, *, curves=("train/loss",), epochs=3):
    """A run directory as the pipeline leaves it; with few curves, because drawing takes most of the time."""
    rows = search_rows(CHOICES[:2], OPTIONS[:3], epochs=6) if rows is None else rows
    run = RunDirectory(path)
    run.create()
    run.write_config(
        {
            "experiment": "yolov9_darts",
            "seed": 0,
            "data": {"name": "bccd"},
            "logger": {"wandb": {"api_key": "s3cr3t"}},
        },
        ignore=(),
    )
    command = ["train.py", "+experiment=yolov9_darts", "data=bccd", "wandb.token=s3cr3t"]
    run.provenance.write_text(json.dumps(provenance(0, command)))
    for row in rows:
        EpochLog(run.search / "alphas.jsonl").append(row)
    losses = [
        {
            "epoch": r["epoch"],
            "train/loss": 7 * math.exp(-r["epoch"] / 30),
            "arch/loss": 7.2 * math.exp(-r["epoch"] / 34),
        }
        for r in rows
    ]
    for stage, table in (
        ("search", losses),
        ("retrain", training_rows(epochs, 0.46, 1)),
        ("reference", training_rows(epochs, 0.44, 2)),
    ):
        rows_ = [{k: v for k, v in row.items() if k == "epoch" or curves is ALL or k in curves} for row in table]
        EpochTable(run.path / stage / "metrics.csv")._write(rows_)
    final = rows[-1]
    facts = {key: final[key] for key in ("probabilities", "entropy", "costs")} | {"seed": 0}
    genotype = Genotype("yolov9-t/deployed", "0123456789ab", final["best"], facts)
    run.genotype.write_text(json.dumps(genotype.to_json()))
    run.export.mkdir()
    (run.export / "model.onnx").write_bytes(b"x" * 7_900_000)
    stages = {
        "search": (1312.4, 2950),
        "retrain": (1180.9, 1820),
        "reference": (1103.2, 1790),
        "export": (11.8, 1500),
    }
    run.write_metrics(
        {
            "status": status,
            "reason": reason,
            "primary_metric": "map50_95",
            "found": network_metrics(0.462, 1, dict(genotype.choices)),
            "reference": network_metrics(0.447, 2, dict.fromkeys(final["best"], "3x3_silu")),
            "search": {"entropy": final["entropy"], "discretized_val": {"map50_95": 0.271, "map50": 0.44}},
            "stages": {name: {"seconds": s, "peak_memory_mb": m} for name, (s, m) in stages.items()},
        }
    )
    return path


class Reader(html.parser.HTMLParser):
    """Checks nesting and collects what a reader sees and what a browser would load."""

    VOID = {"meta", "img", "br"}

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.text, self.addresses = [], [], [], []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())


def report(path, figures=()):
    written = write_report(path, figures)
    assert written == path / "report.html"
    return Reader(written.read_text(encoding="utf-8"))


def test_a_complete_run_is_reported_completely(tmp_path):
    path = write_run(tmp_path / "yolov9_darts" / "a1b2c3", search_rows(), curves=ALL, epochs=60)
    page = report(path, [Figure("Detections", "Boxes on test images. A bad sign: none.", png=PIXEL)])
    words = page.words()
    for expected in (
        "yolov9_darts/a1b2c3",
        "COMPLETED",
        "0.453 0.438 +0.015",  # found, reference and difference of the primary metric on test
        "Platelets",
        "Parameters, train form 2.01 M 2.01 M 1.00\u00d7",
        "Can you trust this search?",
        "The architecture found",
        "neck.up.p4",
        "Option probabilities",
        "Training, found and reference",
        "Detections",
        "search 21 min 52 s 2,950 MB",
        "total 1 h 00 min",
        "train.py +experiment=yolov9_darts",
        "Resolved configuration",
        "export/model.onnx",
    ):
        assert expected in words, expected
    assert page.tags.count("img") == page.tags.count("figure") == page.tags.count("figcaption") == 5
    assert all(
        "bad sign" in text for text in re.findall(r"<figcaption>(.*?)</figcaption>", (path / "report.html").read_text())
    )


def test_the_file_needs_nothing_else(tmp_path):
    page = report(write_run(tmp_path / "run"))
    assert "script" not in page.tags
    assert all(a.startswith("data:") or (tmp_path / "run" / a).is_file() for a in page.addresses)
    text = (tmp_path / "run" / "report.html").read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(", text)
    assert str(tmp_path) not in text
    assert len(text) < 1_500_000


def test_secrets_of_the_configuration_stay_out(tmp_path):
    path = write_run(tmp_path / "run")
    assert "s3cr3t" in (path / "config.yaml").read_text()
    assert "s3cr3t" not in write_report(path).read_text()


def test_a_report_is_a_function_of_the_directory(tmp_path):
    path = write_run(tmp_path / "run")
    assert write_report(path).read_bytes() == write_report(path).read_bytes()


EVIL = "<script>alert(1)</script>\"'&$x$_"


def test_names_cannot_become_markup(tmp_path):
    rows = search_rows([EVIL, "_a$"], [EVIL, "b"], epochs=4)
    for row in rows:
        row["indicators"] = {EVIL: 1.0}
        row["costs"] = {EVIL: 1.0}
    path = write_run(tmp_path / EVIL.replace("/", "|"), rows, status="FAILED", reason=EVIL)
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["primary_metric"] = EVIL
    for network in ("found", "reference"):
        for split in ("val", "test"):
            metrics[network][split] |= {EVIL: 0.5, "ap": {EVIL: 0.5}}
        metrics[network]["costs"][EVIL] = 1.0
    metrics["stages"][EVIL] = {"seconds": 1.0}
    (path / "metrics.json").write_text(json.dumps(metrics))
    (path / "config.yaml").write_text(f"a: {EVIL}\n")
    (path / "provenance.json").write_text(json.dumps(dict.fromkeys(("seed", "command", "started", "python"), EVIL)))
    for stage in ("search", "retrain", "reference"):
        EpochTable(path / stage / "metrics.csv")._write([{"epoch": 0, f"train/{EVIL}": 1.0}])
    (path / "export" / EVIL.replace("/", "|")).write_text("")
    page = report(
        path,
        [Figure(EVIL, EVIL, svg=f"<svg xmlns='http://www.w3.org/2000/svg'>{EVIL}</svg>", legend=[(EVIL, EVIL)])],
    )
    assert "script" not in page.tags
    assert page.words().count("<script>alert(1)</script>") > 10


PARTS = [
    "config.yaml",
    "provenance.json",
    "genotype.json",
    "metrics.json",
    "search/alphas.jsonl",
    "search/metrics.csv",
    "retrain/metrics.csv",
    "reference/metrics.csv",
]
WRONG_SHAPES = [
    "",
    "null",
    "[]",
    "{}",
    '{"epoch": 0}\n',
    '{"status": 1, "found": 3, "stages": [1]}',
    "a,b\n1\n",
]
WRONG_SHAPES += [
    '{"epoch": 0, "probabilities": {"a": {"x": null}, "b": 1, "c": {}}}\n',
    "epoch,train/loss\nx,1\n,\n1,y",
]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_may_be_absent_or_damaged(tmp_path, part):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:2], OPTIONS[:2], epochs=2))
    for other in set(PARTS) - {part}:
        if other.startswith(("search", "retrain", "reference")):
            (path / other).unlink()  # drawn in other cases
    content = (path / part).read_bytes()
    (path / part).unlink()
    report(path)
    for damage in (content[: len(content) // 2], b"\xff\xfe\x00{", *(text.encode() for text in WRONG_SHAPES)):
        (path / part).write_bytes(damage)
        report(path)


def test_what_could_not_be_read_is_said(tmp_path):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:2], epochs=2))
    (path / "genotype.json").write_text("{")
    (path / "search" / "alphas.jsonl").write_text("x\n")
    words = report(path).words()
    assert "Some files could not be read" in words
    assert "genotype.json is not JSON" in words
    assert "Line 1 of search/alphas.jsonl" in words


def test_an_empty_directory_and_an_absent_one(tmp_path):
    assert "Nothing has been run" in report(tmp_path).words()
    with pytest.raises(RunDirectoryError, match="no run directory"):
        write_report(tmp_path / "absent")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("FAILED", "The run failed. the loss is nan"),
        ("STOPPED", "stopped on request"),
        ("RUNNING", "INTERRUPTED The run ended without saying why"),
    ],
)
def test_the_status_comes_first(tmp_path, status, words):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:1], OPTIONS[:2], epochs=2), status, "the loss is nan")
    (path / "genotype.json").unlink()
    page = report(path).words()
    assert words in page.replace(" seed 0", "") or words.split(" ", 1)[1] in page
    assert "The architecture found so far" in page


def test_a_run_without_a_reference_shows_one_network(tmp_path):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:2], epochs=2))
    metrics = json.loads((path / "metrics.json").read_text()) | {"reference": None}
    (path / "metrics.json").write_text(json.dumps(metrics))
    (path / "reference" / "metrics.csv").unlink()
    page = report(path)
    assert "difference" not in page.text
    assert "map50_95 0.476 0.453" in page.words()


def test_a_score_that_is_not_a_number_is_a_dash(tmp_path):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:2], epochs=2))
    run = RunDirectory(path)
    metrics = json.loads(run.metrics.read_text())
    metrics["found"]["test"]["map50"] = math.nan
    run.write_metrics(metrics)
    assert "mAP50 (map50) 0.761 0.737 +0.025 \u2013 0.701 \u2013" in report(path).words()


def test_detection_metrics_have_the_names_people_know(tmp_path):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:2], epochs=2))
    text = (path / "metrics.json").read_text().replace('"ap/', '"map/').replace("map50_95", "map")
    metrics = json.loads(text)
    (path / "metrics.json").write_text(text)
    words = report(path).words()
    assert "mAP50-95 (map), test" in words
    assert "mAP50 (map50) 0." in words
    rows = [line.split("│")[1].strip() for line in results_table(metrics).splitlines() if "│" in line]
    assert rows[:4] == ["val mAP50-95 (map)", "val mAP50 (map50)", "test mAP50-95 (map)", "test mAP50 (map50)"]
    assert rows[4:] == ["Parameters, train form", "Parameters, deployed", "GFLOPs", "Latency (ms)"]


# Networks to compare with


def with_metrics(path, **values):
    """A run directory whose ``metrics.json`` says something else."""
    metrics = json.loads((path / "metrics.json").read_text()) | values
    (path / "metrics.json").write_text(json.dumps(metrics))
    return metrics


def random_of(heights, costs=({"params_deployed": 1e6}, {"params_deployed": 3e6})):
    """Random networks of some val scores, with test scores 0.1 below."""
    entries = zip(heights, itertools.cycle(costs), strict=False)
    return [
        {"genotype": {}, "val": {"map50_95": h}, "test": {"map50_95": h - 0.1}, "costs": dict(c)} for h, c in entries
    ]


def test_random_networks_are_shown_by_mean_and_deviation(tmp_path):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:2], epochs=2))
    metrics = with_metrics(path, random=random_of([0.3, 0.4]))
    page = report(path)
    words = page.words()
    assert "random mean ± sd of 2" in words
    assert "map50_95 0.476 0.460 +0.015 0.350 ± 0.071 0.453 0.438 +0.015 0.250 ± 0.071" in words
    assert "mAP50 (map50) 0.761 0.737 +0.025 \u2013" in words, "what random networks lack is a dash"
    assert re.search(r"Parameters, deployed [\d.]+ M [\d.]+ M [\d.]+\S 2\.00 M ± 1\.41 M", words)
    assert "Random architectures, found and reference" in words
    cells = {line.split("│")[1].strip(): line.split("│")[4].strip() for line in lines_of(metrics)}
    assert cells["val map50_95"] == "0.350 +- 0.071"
    assert cells["test mAP50 (map50)"] == "-"
    assert cells["Parameters, deployed"] == "2,000,000 +- 1,414,214"


def lines_of(metrics):
    return [line for line in results_table(metrics).splitlines() if line.startswith("│")]


@pytest.mark.parametrize("entries", [[], None, 3, ["x"], [{}], [{"val": 1}], [{"val": {"map50_95": None}}]])
def test_damaged_random_networks_do_no_harm(tmp_path, entries):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:1], OPTIONS[:2], epochs=2))
    metrics = with_metrics(path, random=entries)
    assert "beat" not in report(path).words()
    assert lines_of(metrics)


def test_random_networks_stand_beside_a_found_one_alone(tmp_path):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:1], OPTIONS[:2], epochs=2))
    with_metrics(path, random=random_of([0.3]), reference=None)
    words = report(path).words()
    assert "random (one)" in words
    assert "map50_95 0.476 0.300 0.453 0.200" in words
    assert "difference" not in words.split("Can you trust")[0].split("Cost")[0]


@pytest.mark.parametrize(
    ("heights", "level", "title", "said"),
    [
        # mean 0.38, sd 0.02, standard error 0.01: 0.476 is 9.6 of them above
        ([0.36, 0.36, 0.40, 0.40], "good", "The search beats random architectures", "above all of them, 8.3 standard"),
        (
            [0.30, 0.46, 0.60],
            "caution",
            "The search hardly beats random architectures",
            "above 2 of them, 0.3 standard",
        ),
        ([0.55, 0.5, 0.6], "bad", "The search does not beat random architectures", "above none of them, 2.6 standard"),
        ([0.4, 0.4], "good", "The search beats random architectures", "above their mean, of which they do not differ"),
        ([0.4], "info", "The found network scores above a random one", "One random architecture says nothing"),
    ],
    ids=["clear", "luck", "worse", "equal", "one"],
)
def test_found_is_judged_against_random(tmp_path, heights, level, title, said):
    path = write_run(tmp_path / "run", search_rows(speed=0.2))
    with_metrics(path, random=random_of(heights))
    finding = next(f for f in judge(RunRecord.read(path)) if "random" in f.title)
    assert (finding.level, finding.title) == (level, title)
    assert said in finding.text
    assert "0.476 found" in finding.text


def test_standard_errors_are_those_of_the_mean():
    values = Spread((1.0, 2.0, 3.0, 6.0))
    assert values.mean == 3.0
    assert values.deviation == pytest.approx(math.sqrt(14 / 3))
    assert values.standard_error == pytest.approx(math.sqrt(14 / 3) / 2)
    assert Spread((1.0,)).deviation is Spread((1.0,)).standard_error is None


def test_costs_are_called_and_ordered_as_the_run_says(tmp_path):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:1], OPTIONS[:2], epochs=2))
    metrics = json.loads((path / "metrics.json").read_text())
    for network in ("found", "reference"):
        metrics[network]["costs"] = {"cx": 4.0, "depth": 12.0, "params_train": 36.0, "surprise": 0.25}
    labels = {"params_train": "Parameters, train form", "depth": "Depth on <b>", "cx": "Two-qubit gates", "none": "-"}
    metrics = with_metrics(path, found=metrics["found"], reference=metrics["reference"], cost_labels=labels)
    rows = [line.split("│")[1].strip() for line in lines_of(metrics)]
    assert rows[4:] == ["Parameters, train form", "Depth on <b>", "Two-qubit gates", "surprise"]
    assert "│ 4 │" in re.sub(" +", " ", results_table(metrics))
    words = report(path).words()
    assert "Depth on <b> 12 12 1.00\u00d7 Two-qubit gates 4 4 1.00\u00d7 surprise 0.25 0.25 1.00\u00d7" in words


def test_runs_without_labels_keep_the_names_they_had():
    old = {"found": {"costs": {"zeta": 1.0, "latency_ms": 2.0, "params_train": 3.0, "alpha": 1.0}}}
    assert list(cost_labels(old).values()) == ["Parameters, train form", "Latency (ms)", "alpha", "zeta"]
    assert cost_labels({"cost_labels": {"a": 1, "b": "B"}}, old)["b"] == "B"
    assert cost_labels({}) == {}


def test_the_relaxed_score_is_never_shown_alone(tmp_path):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:1], OPTIONS[:2], epochs=2))
    scores = {"relaxed_val": {"map50_95": 0.4}, "discretized_val": {"map50_95": 0.25}}
    metrics = with_metrics(path, search=scores)
    assert "on val, map50_95 : relaxed 0.400, discretized 0.250, gap +0.150" in report(path).words()
    assert results_table(metrics).splitlines()[-1] == (
        "Search, val map50_95: relaxed 0.400, discretized 0.250, gap +0.150"
    )
    for search in ({"relaxed_val": {"map50_95": 0.4}}, {"relaxed_val": None, "discretized_val": {"map50_95": 0.25}}):
        metrics = with_metrics(path, search=search)
        assert "relaxed 0" not in report(path).words()
        assert "relaxed 0" not in results_table(metrics)


def test_pictures_of_the_network_stand_by_its_architecture(tmp_path):
    path = write_run(tmp_path / "run", search_rows(CHOICES[:1], OPTIONS[:2], epochs=2))
    write_report(path, [Figure("Examples of it", "x", png=PIXEL)], [Figure("A circuit", "x", png=PIXEL)])
    text = (path / "report.html").read_text()
    assert text.index("The architecture found") < text.index("A circuit") < text.index("Examples of it")


def test_many_choices_become_a_heat_map(tmp_path):
    rows = search_rows([f"layer{i}.gate" for i in range(60)], ["rx", "ry"], epochs=3)
    words = report(write_run(tmp_path / "run", rows)).words()
    assert "Probability of the finally chosen option" in words
    assert "Option probabilities" not in words


# The verdict


def findings_of(tmp_path, rows):
    findings = judge(RunRecord.read(write_run(tmp_path / "run", rows)))
    return {finding.title: finding.level for finding in findings}, summary(findings).level


def test_commitment_and_lead_have_their_ends():
    assert commitment({"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}) == 0
    assert commitment({"a": 1.0, "b": 0.0, "c": 0.0}) == pytest.approx(1)
    assert commitment({"a": 0.75, "b": 0.25}) == pytest.approx(0.5)
    assert lead({"a": 0.5, "b": 0.2, "c": 0.3}) == pytest.approx(0.2)
    assert commitment({"a": 1.0}) == lead({"a": 1.0}) == 1


def test_a_sound_search_is_called_sound(tmp_path):
    levels, overall = findings_of(tmp_path, search_rows(speed=0.2))
    assert levels["The alphas moved"] == levels["The decisions are settled"] == "good"
    assert levels["The found network scores above the reference"] == "info"
    assert overall == "good"


def test_alphas_that_did_not_move_are_called_arbitrary(tmp_path):
    levels, overall = findings_of(tmp_path, search_rows(speed=1e-4))
    assert levels["The alphas did not move"] == "bad"
    assert overall == "bad"


def test_late_changes_are_called_unsettled(tmp_path):
    rows = search_rows(CHOICES[:8], ["a", "b"], speed=0.2)
    for name in CHOICES[:3]:
        first, second = rows[-1]["probabilities"][name].values()
        rows[-1]["probabilities"][name] = {"a": second, "b": first}
    levels, overall = findings_of(tmp_path, rows)
    assert levels["3 of 8 choices still changed late"] == "caution"
    assert overall == "caution"


def test_one_option_everywhere_is_called_a_possible_collapse(tmp_path):
    rows = search_rows(CHOICES[:5], ["skip", "conv"], epochs=6)
    for row in rows:
        share = 0.5 + 0.08 * row["epoch"]
        row["probabilities"] = {name: {"skip": share, "conv": 1 - share} for name in CHOICES[:5]}
        row["best"] = dict.fromkeys(CHOICES[:5], "skip")
    levels, _ = findings_of(tmp_path, rows)
    assert levels["skip wins 5 of 5 choices"] == "caution"


def test_a_short_search_is_called_short(tmp_path):
    levels, _ = findings_of(tmp_path, search_rows(epochs=1))
    assert levels["Only 1 epoch of search"] == "caution"


def test_nothing_searched_nothing_judged(tmp_path):
    path = write_run(tmp_path / "run")
    (path / "search" / "alphas.jsonl").unlink()
    assert judge(RunRecord.read(path)) == []
    assert "Can you trust" not in report(path).words()


# Figures


def test_a_figure_has_exactly_one_picture():
    with pytest.raises(ValueError, match="either svg or png"):
        Figure("a", "b")
    with pytest.raises(ValueError, match="either svg or png"):
        Figure("a", "b", svg="<svg/>", png=PIXEL)


def test_figures_follow_the_theme_of_the_page():
    from matplotlib.figure import Figure as MatplotlibFigure

    with drawing():
        plot = MatplotlibFigure()
        plot.add_subplot().plot([0, 1], [0, 1])
        svg = Figure.from_matplotlib(plot, "t", "c").svg
    assert "currentColor" in svg
    assert "prefers-color-scheme:dark" in svg
    assert "#010203" not in svg
    assert "#000000" not in svg


@pytest.mark.parametrize("n", [1, 2, 8, 9, 40])
def test_options_have_different_colours(n):
    assert len(set(option_colours(n))) == n


def test_importing_the_report_does_not_import_matplotlib_or_torch():
    code = "import sys, darts_hpo.report; print([m for m in ('matplotlib', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
