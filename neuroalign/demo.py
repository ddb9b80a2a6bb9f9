"""The content of ``neuroalign demo``: real pretrained models against real human data, and one planted answer.

Nothing is simulated where a real thing can be had offline; every section of the report names what is real and what
is planted. Data that only a mirror or the network has are used where they can be had, else the demo says so and
goes on.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd

import neuroalign as na
from neuroalign import plots
from neuroalign.alignment import compare_selected, partition_rsa, rdms
from neuroalign.data import StimulusSet, is_available
from neuroalign.data import scores as score_tools
from neuroalign.data.packages import find_file
from neuroalign.features.baselines import tfidf
from neuroalign.models.derived import class_names
from neuroalign.models.zoo import get_entry
from neuroalign.reports import Picture, Section, Table

__all__ = ["run_demo"]

VISION, TEXT, SPEECH = "efficientnet-lite0", "minilm", "smollm2-135m"
N_TWINS = 5
# Layers of EfficientNet-Lite0 that are compared with visual cortex: one a resolution, and the pooled output.
VISION_LAYERS = ("blocks.2", "blocks.4", "blocks.7", "blocks.10", "blocks.14", "pool")
HIGH_PASS = 1 / 128  # Hz
ALPHA = 0.05  # false discovery rate


def run_demo(out, *, store=None, random_state: int = 0) -> Path:
    """Run every part of the demo that the data at hand allow, and write scores, figures and a report.

    Parameters
    ----------
    out : str or Path
        Folder for ``report.html``, ``figures/*.png`` and ``scores/*.nc``.
    store : str or Path, optional
        Feature store; ``OUT/store`` by default.
    random_state : int

    Returns
    -------
    Path
        The report.
    """
    out = Path(out)
    store = Path(store) if store else out / "store"
    started = time.time()
    sections, summary = [], []
    for name, needs, part in PARTS:
        if not all(map(is_available, needs)):
            missing = next(n for n in needs if not is_available(n))
            why = (f"left out, the data set `{missing}` is in no mirror and cannot be downloaded here. Set "
                   f"NEUROALIGN_MIRROR, or see `neuroalign data fetch {missing}`.")
            print(f"– {name}: {why}", flush=True)
            summary.append(f"{name}: {why}")
            continue
        print(f"– {name} ...", flush=True)
        section, found = part(store, random_state)
        sections.append(section)
        summary += found
        for line in found:
            print(f"    {line.replace('**', '').replace('`', '')}", flush=True)
    _write_parts(sections, out)
    report = na.report(sections, out / "report.html", title="Models and brains: a first comparison", summary=summary)
    print(f"\nDone in {time.time() - started:.0f} s. Report: {report.resolve()}", flush=True)
    return report


def words_and_documents(store, random_state):
    """MiniLM, its random twins and tf-idf against human similarity of words and documents."""
    blocks = ["encoder.layer.*"]
    parts = []
    for name, unit in (("wordsim353", "character"), ("simlex999", "character"), ("lee50", "word")):
        stimuli = na.load_stimuli(name)
        features = na.extract([TEXT, *_twins(TEXT, 3)], stimuli, layers=blocks, streams=["all"], store=store,
                              progress=False)
        parts.append(na.compare([features, tfidf(stimuli, unit=unit)], na.load_rdms(name), rdm="cosine",
                                n_permutations=1000, n_bootstraps=1000, random_state=random_state, progress=False))
    scores = score_tools.concat(parts, dim="target")
    pair = features.select(models=[TEXT, f"{TEXT}@random.0"])
    inner = na.compare(pair, pair, metric=["cka.debiased", "cka.biased"], n_permutations=0, random_state=random_state)
    last = _last_layer(scores, TEXT)
    lines = [
        f"{target}: the last layer of MiniLM agrees with people at **{_score(scores, last, target):.2f}**, the best "
        f"layer of three random twins at {_best(scores, '@random', target):.2f}, tf-idf at "
        f"{_best(scores, 'tfidf', target):.2f} (Spearman)."
        for target in scores["target"].values
    ]
    section = Section(
        "Words and documents",
        "Cosine distance between embeddings of 437 and 1,028 words and of 50 news documents, against the similarity "
        "that people gave the same pairs. Every layer of MiniLM is compared. The random twins have the same "
        "architecture and tokeniser, and weights drawn anew. The baseline counts words (documents) or runs of letters "
        "(single words).",
        figures=[
            Picture(plots.layer_profile(scores), "Similarity of words and documents, layer by layer."),
            Picture(plots.matrix(inner, "cka.debiased"), "Which layers of MiniLM and of one random twin represent the "
                    "50 documents alike: debiased linear CKA. Biased CKA would be high everywhere, since there are "
                    "fewer documents than features."),
        ],
        scores=[scores, inner],
        real=["MiniLM (packaged weights)", "WordSim-353, SimLex-999, Lee documents (human ratings)"],
        notes=["The mean rating of a pair has no measured reliability in these files, so no ceiling is drawn."],
    )
    return section, lines


def photographs(store, random_state):
    """EfficientNet-Lite0 and its random twin name real photographs."""
    stimuli = na.load_stimuli("photographs")
    package = get_entry("derived").package
    classes = np.array(class_names(find_file(package.distribution, package.path, package.sha256, pip=package.pip)))
    twin = f"{VISION}@random"
    features = na.extract([VISION, twin], stimuli, layers=["classifier"], store=store, progress=False)
    odds = {model: _softmax(features[f"{model}:classifier:image"].values) for model in (VISION, twin)}
    table = pd.DataFrame({"photograph": stimuli.ids, "shows": stimuli.table["text"].values})
    for model, words in ((VISION, "the trained network says"), (twin, "its random twin says")):
        table[words] = classes[odds[model].argmax(1)]
        table[f"{words}, probability"] = odds[model].max(1).round(3)
    named = table.set_index("photograph")["the trained network says"]
    n_random = table["its random twin says"].nunique()
    shown = ", ".join(f"**{named[i]}** for {words}" for i, words in stimuli.table["text"].items()
                      if i in ("china", "flower", "chelsea", "coffee"))
    line = (f"EfficientNet-Lite0 says {shown}; its random twin has {n_random} name{'s' * (n_random > 1)} for all "
            f"{len(stimuli)} photographs.")
    images = [(i, stimuli.table.loc[i, "image"], named[i]) for i in stimuli.ids]
    section = Section(
        "Photographs, named",
        "A sanity check before anything is compared with a brain: does the packaged network still know what it was "
        "trained on, and does its random twin not?",
        figures=[Picture(plots.photo_grid(images), "Photographs that Python packages ship, each with the class that "
                         "the trained network finds most probable. Textures, an eye and the moon are not among its "
                         "1,000 classes, so it names what comes nearest.")],
        tables=[Table(table, "The most probable of 1,000 ImageNet classes.")],
        real=["EfficientNet-Lite0 (packaged weights)", "photographs"],
    )
    return section, [line]


def planted_sites(store, random_state):
    """Real electrode coordinates and film words, a planted response at some sites, noise at the others."""
    words = na.load_stimuli("brain_treebank")
    words = words.select(words.ids[:1200])
    electrodes = na.load_electrodes("brain_treebank_electrodes").iloc[::6]
    features = na.extract(TEXT, words, layers=["encoder.layer.2"], streams=["word"], context=128, store=store,
                          progress=False)
    truth = _near_auditory_cortex(electrodes)
    responses = na.simulate.brain(_word_form(words), sites=electrodes, driven=truth, snr=0.2, ar=0.7,
                                  random_state=random_state)
    scores = na.encode(features, responses, gap=5, n_splits=4, n_inner_splits=4, alphas=np.logspace(1, 6, 6),
                       metric="r.pooled", n_permutations=300, random_state=random_state, progress=False)
    found = (scores["q"].squeeze() < ALPHA).values
    power = (found & truth).sum() / truth.sum()
    false = (found & ~truth).sum() / max(found.sum(), 1)
    section = Section(
        "Planted sites, found again",
        f"{len(electrodes)} real SEEG electrode positions (every sixth of the Brain Treebank's, ten subjects) and the "
        f"first {len(words):,} words of a film viewing. At the sites near auditory cortex a response was planted that "
        "follows the length, the frequency and the pace of the words; all other sites are autocorrelated noise. The "
        "features under test come from another source: the third layer of MiniLM, which had no part in making the "
        "responses.",
        figures=[Picture(plots.sites(scores, truth=truth), "Top: sites with a planted response. Bottom: sites found at "
                         "a false discovery rate of .05 (circular-shift null, the penalty chosen anew each time).")],
        scores=scores,
        real=["electrode coordinates (MNI152)", "film words and their times", "MiniLM (packaged weights)"],
        planted=["the responses of all sites"],
        notes=["Sites of noise take the largest penalty, as they should: that is what the warning about the edge of "
               "the grid counts."],
    )
    return section, [f"Planted sites: **{power:.0%}** of {truth.sum()} found; **{false:.1%}** of {found.sum()} "
                     "discoveries are false (5 % allowed on average)."]


def object_images(store, random_state):
    """Vision layers, random twins and object names against IT, EVC, monkey IT and behaviour."""
    images = na.load_stimuli("objects92")
    phrases = [f"a photo of a {name}" for name in images.table["name"]]
    names = StimulusSet.from_texts(phrases, images.ids, name="objects92-names")
    targets = na.load_rdms("objects92")
    targets = targets.sel(target=targets["region"].values != "hIT_group")  # the mean of the subjects of hIT
    several = targets.sel(target=targets["subject"].values != "")  # layers are chosen on some of the subjects
    seen = na.extract([VISION, *_twins(VISION, N_TWINS)], images, layers=VISION_LAYERS, pooling="flatten",
                      storage_dtype="float16", store=store, progress=False)
    read = na.extract(TEXT, names, layers=["encoder.layer.*"], streams=["all"], store=store, progress=False)
    scores = na.compare([seen, read], targets, n_permutations=1000, n_bootstraps=1000, random_state=random_state,
                        progress=False)
    chosen = compare_selected([seen, read], several, n_bootstraps=500, keep=["bootstrap"], n_permutations=500,
                              random_state=random_state)
    top, text = f"{VISION}:blocks.14:image", _last_layer(scores, TEXT)
    two = {"vision": seen[top], "names": read[text]}
    parts = partition_rsa(two, targets, n_permutations=500, random_state=random_state)
    twin = f"{VISION}@random.0"
    pairs = ((VISION, TEXT), (VISION, twin), (TEXT, twin))
    gaps = score_tools.concat([score_tools.diff(chosen, first, second) for first, second in pairs])
    section = Section(
        "Object images in visual cortex and behaviour",
        "Dissimilarities of 92 objects in human IT and early visual cortex (fMRI), monkey IT (674 cells) and human "
        "judgement, against the layers of a vision network, five random twins of it, and the names of the objects "
        "read by MiniLM. A score is the mean over subjects of the correlation with each subject's RDM; the band is "
        "the noise ceiling of the same aggregation. Where models are compared with each other, the layer of each is "
        "chosen on half of the subjects and scored on the other half.",
        figures=[
            Picture(plots.layer_profile(scores), "Every layer; the random twins are drawn as their range."),
            Picture(plots.matrix(chosen), "Best layer, chosen on half of the subjects, scored on the other half."),
            Picture(plots.difference(gaps), "One model leads another only where the interval excludes zero."),
            Picture(plots.rdm_panel(rdms(two), images), f"The RDMs of two layers: {top} and {text}."),
            Picture(plots.bars(parts), "Rank variance of each target that vision explains alone, that names explain "
                                       "alone, and that both share."),
        ],
        scores=[scores, chosen, gaps, parts],
        real=["EfficientNet-Lite0 and MiniLM (packaged weights)", "human and monkey RDMs, human judgements"],
        notes=["An untrained network is no zero point, so five draws of random weights stand beside the trained one. "
               "In early visual cortex they do better than it."],
    )
    return section, _leads(gaps)


def listening_to_alice(store, random_state):
    """Word rate, sound power and surprisal predict six regions of 27 listeners."""
    words = na.load_stimuli("alice_fmri")
    surprisal = na.extract(SPEECH, words, streams=["word"], outputs=["surprisal"], store=store, progress=False)
    responses, reliability = na.prepare_responses("alice_fmri", high_pass=HIGH_PASS, average_subjects=True,
                                                  random_state=random_state)
    scores, strict = (
        na.encode(surprisal, responses, nuisance=["word_rate", "sound_power"], cv="blocks", inner_cv=inner, n_splits=6,
                  hrf="spm", at="offset", metric="r.pooled", ceiling=reliability, n_permutations=500, null="shift",
                  random_state=random_state, progress=False)
        for inner in ("auto", "loo")
    )
    q = {name: s["q"].squeeze().to_series() for name, s in (("blocks", scores), ("leave-one-out", strict))}
    both = pd.DataFrame(q).assign(holds=lambda t: (t < ALPHA).all(axis=1)).rename_axis("region")
    holds, fails = both.index[both["holds"]], both.index[~both["holds"]]
    line = (f"Surprisal adds to word rate and sound power in **{', '.join(holds) or 'no region'}**, and not "
            f"reliably in **{', '.join(fails) or 'no other'}** (q < .05 whichever way the penalty is chosen).")
    section = Section(
        "Listening to Alice in Wonderland",
        "27 people listened to the first chapter in the scanner. Does the surprisal of each word, computed by a "
        "language model, predict six language regions beyond word rate and sound power? Mean over listeners; six "
        "blocks of time with a gap of 16 s; null: the surprisal series shifted in a circle against its words, "
        "everything refitted. A region is said to hold only if it does so for both ways of choosing the penalty: inner "
        "blocks with a gap (drawn here), and leave-one-out.",
        figures=[Picture(plots.bars(scores), "Out-of-fold correlation with surprisal; the black mark is word rate and "
                         "sound power alone, the grey box the null, the dashed mark the ceiling of the group mean.")],
        tables=[Table(both.round(4).reset_index(), "q of surprisal by the way in which the penalty was chosen.")],
        scores=[scores, strict],
        real=["SmolLM2-135M (packaged weights)", "fMRI of 27 listeners"],
        notes=["The ceiling is the square root of the split-half reliability of the very mean that was predicted."],
    )
    return section, [line]


PARTS = (
    ("Words and documents", ("wordsim353", "simlex999", "lee50"), words_and_documents),
    ("Photographs, named", ("photographs",), photographs),
    ("Planted sites", ("brain_treebank", "brain_treebank_electrodes"), planted_sites),
    ("Object images", ("objects92",), object_images),
    ("Listening to Alice", ("alice_fmri",), listening_to_alice),
)


def _twins(model: str, n: int) -> list[str]:
    return [f"{model}@random.{seed}" for seed in range(n)]


def _last_layer(scores, model: str) -> str:
    """The last block of a model: the deepest that is not a head."""
    own = scores["space"].values[(scores["model"].values == model) & (scores["layer"].values != "pooler")]
    return str(own[scores["depth"].sel(space=own).values.argmax()])


def _score(scores, space: str, target) -> float:
    return float(scores["score"].sel(space=space, target=target).squeeze())


def _best(scores, word: str, target) -> float:
    """The highest score of the spaces whose name holds a word."""
    return np.nanmax([_score(scores, s, target) for s in scores["space"].values if word in s])


def _softmax(logits):
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def _near_auditory_cortex(electrodes, radius: float = 28.0) -> np.ndarray:
    """Sites within `radius` mm of the left or right superior temporal gyrus (MNI +-58, -20, 4)."""
    xyz = electrodes[["x", "y", "z"]].to_numpy()
    centre = np.array([58.0, -20.0, 4.0])
    return np.linalg.norm(np.abs(xyz) * [1, 0, 0] + xyz * [0, 1, 1] - centre, axis=1) < radius


def _word_form(words: StimulusSet):
    """What drives the planted response: length, log frequency in the film, and the pause before each word."""
    text = words.table["text"].str.lower()
    counts = text.map(text.value_counts())
    pause = np.clip(np.diff(words.table["onset"], prepend=words.table["onset"].iloc[0]), 0, 2)
    values = np.column_stack([text.str.len(), np.log(counts), pause])
    values = (values - values.mean(0)) / values.std(0)
    return na.data.make_features(values, list(words.ids), model="word form", stream="word",
                                 coords={"onset": words.table["onset"]})


def _leads(gaps) -> list[str]:
    """Say that one model leads another only where the interval of the difference excludes zero."""
    lines = []
    for row in score_tools.to_frame(gaps).dropna(subset=["ci_low"]).itertuples():
        first, second = row.space.split(" - ")
        if row.ci_low > 0 or row.ci_high < 0:
            ahead, behind = (first, second) if row.score > 0 else (second, first)
            low, high = sorted((abs(row.ci_low), abs(row.ci_high)))
            lines.append(f"{row.target}: **{ahead}** leads {behind} by {abs(row.score):.2f} [{low:.2f}, {high:.2f}].")
    return lines or ["No model leads another by an interval that excludes zero."]


def _write_parts(sections, out: Path) -> None:
    """Save every figure as PNG and every Scores as netCDF beside the report."""
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for section in sections:
        stem = section.title.lower().replace(",", "").replace(" ", "-")[:40]
        for number, picture in enumerate(section.figures, 1):
            picture.figure.savefig(out / "figures" / f"{stem}-{number}.png", dpi=150)
        for number, scores in enumerate(section.score_list(), 1):
            score_tools.save(scores.drop_vars("bootstrap", errors="ignore"), out / "scores" / f"{stem}-{number}.nc")
