"""Every figure of neuroalign on simulated data and on what its packages carry: ``make gallery``.

The data are planted, so that each figure shows something known: a site that is driven, a time at which it is, a share
that two models have in common. Nothing here is a finding about a brain.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import neuroalign as na
from neuroalign.alignment import rdms
from neuroalign.data import make_features, make_rdms, make_responses
from neuroalign.data import scores as score_tools

N = 120
IDS = [f"s{k:03d}" for k in range(N)]
REGIONS = ("V1", "LO", "IT", "STS", "IFG")


def main(out: Path, only: list[str], random_state: int) -> None:
    """Draw every figure, or those of the groups named, and name the files."""
    started = time.time()
    out.mkdir(parents=True, exist_ok=True)
    groups = (depth, sites, parts, times, heads, cortex, geometry, words, probes)
    for draw in [g for g in groups if g.__name__ in only or not only]:
        for name, figure in draw(np.random.default_rng(random_state)).items():
            figure.savefig(out / f"{name}.png", dpi=150)
            figure.savefig(out / f"{name}.pdf")
            print(out / f"{name}.png", flush=True)
    print(f"Done in {time.time() - started:.0f} s.")


def depth(rng) -> dict:
    """Encoding of two models with five layers, two random twins, three subjects and five regions."""
    causes = {kind: rng.standard_normal((N, 6)) for kind in ("low", "high")}
    mixes = {"vision-net": (1.0, 0.0, 0.2, 1.0), "language-net": (0.1, 0.0, 0.5, 1.0)}  # low to high along depth
    spaces = [_layer(rng, causes, model, k, low + (high - low) * k / 4, first + (last - first) * k / 4)
              for model, (low, high, first, last) in mixes.items() for k in range(5)]
    spaces += [_layer(rng, causes, f"vision-net@random.{seed}", k, 0.5, 0.1) for seed in range(2) for k in range(5)]
    share = dict(zip(REGIONS, (0.0, 0.3, 0.9, 0.7, 0.6)))
    neuroids = pd.DataFrame([(s, r) for s in ("s1", "s2", "s3") for r in REGIONS for _ in range(2)],
                            columns=["subject", "region"])
    weight = neuroids["region"].map(share).to_numpy()
    place = neuroids["region"].map({r: k for k, r in enumerate(REGIONS)}).to_numpy()
    wanted = {kind: rng.standard_normal((6, len(REGIONS)))[:, place] + 0.4 * rng.standard_normal((6, len(place)))
              for kind in causes}  # the neuroids of a region are alike
    signal = causes["low"] @ wanted["low"] * (1 - weight) + causes["high"] @ wanted["high"] * weight
    values = np.stack([signal + 2.5 * rng.standard_normal(signal.shape) for _ in range(2)])
    responses = make_responses(values.reshape(2 * N, -1), IDS * 2, [f"{s}.{r}.{k}" for k, (s, r) in
                                                                  enumerate(neuroids.itertuples(index=False))],
                               dim="presentation", kind="fmri", neuroid_coords=dict(neuroids))
    mean = responses.groupby("region").mean("neuroid").rename(region="neuroid")
    mean = mean.transpose("presentation", "neuroid").sel(neuroid=list(REGIONS))
    regions = make_responses(mean.values, IDS * 2, list(REGIONS), dim="presentation", kind="fmri")
    scores = na.encode(spaces, regions, metric=("r.pooled",), n_permutations=60, n_bootstraps=100)
    last = [s for s in spaces if str(s.space_id.values) in ("vision-net:b.4:all", "language-net:b.4:all")]
    units = na.encode(last, responses, metric=("r.pooled",))
    return {"layer_profile": na.plot.layer_profile(scores, title="Encoding along the depth of models"),
            "matrix": na.plot.matrix(scores, title="Models and regions"),
            "roi_bars": na.plot.bars(units, by="region", title="Regions, with subjects as points"),
            "bars": na.plot.bars(scores, spaces=["vision-net:b.4:all", "language-net:b.4:all"], title="Two models")}


def sites(rng) -> dict:
    """Depth electrodes of which some are driven by one model, some by two together."""
    ids = [f"s{k:03d}" for k in range(2 * N)]
    causes = rng.standard_normal((3, 2 * N, 3))
    joint = np.concatenate(list(causes), 1)
    vision, language = (_space(rng, causes[k], m, ids=ids) for k, m in enumerate(("vision", "language")))
    both = _space(rng, joint, "multimodal", noise=0.3, ids=ids)
    table = _electrodes(rng)
    driven = rng.random(len(table)) < 0.3
    responses = na.simulate.brain(_space(rng, joint, "cause", noise=0.0, ids=ids), sites=table, driven=driven,
                                  snr=rng.uniform(0.02, 2.0, len(table)), random_state=1)
    scores = na.encode([vision, language, both], responses, layer={"unimodal": ["vision:*", "language:*"],
                                                                   "multimodal": ["multimodal:*"]},
                       metric=("r.pooled",), n_permutations=200, n_bootstraps=2500, keep=["bootstrap"])
    tests = na.site_tests(scores, {"multimodal > unimodal": ("multimodal", "unimodal"),
                                   "unimodal > multimodal": ("unimodal", "multimodal")})
    found = scores.sel(space=["multimodal"])
    return {"sites": na.plot.sites(found.assign_coords(driven=("neuroid", driven)), truth="driven",
                                   title="Planted sites, and what was found"),
            "sites_scores": na.plot.sites(found, title="Electrodes that a model predicts"),
            "versus": na.plot.versus(scores, "unimodal", "multimodal", tests,
                                     title="Unimodal or multimodal?")}


def parts(rng) -> dict:
    """Variance that is unique to three bands and shared by them."""
    latent = rng.standard_normal((N, 8))
    bands = {"vision": latent[:, :4], "language": latent[:, 2:6], "sound": latent[:, 5:8]}
    spaces = {name: _space(rng, values, name, noise=0.2) for name, values in bands.items()}
    mixing = rng.standard_normal((8, 12)) * np.repeat([[1], [1], [1], [1], [0.7], [0.7], [0.5], [0.5]], 12, 1)
    regions = np.repeat(["IT", "STS", "A1"], 4)
    mixing[:, 8:] *= np.array([0, 0, 0, 0, 0.5, 1.5, 1.5, 1.5])[:, None]
    responses = make_responses(latent @ mixing + 1.5 * rng.standard_normal((N, 12)), IDS, [f"v{k}" for k in range(12)],
                               neuroid_coords={"region": regions})
    three = na.partition_variance(spaces, responses, method="ridge", n_bootstraps=200)
    two = na.partition_variance({k: spaces[k] for k in ("vision", "language")}, responses, method="ridge",
                                n_bootstraps=200)
    return {"venn_three": na.plot.venn(three, by="region", title="What three models share"),
            "venn_two": na.plot.venn(two, targets=["v0", "v5"], title="Two models at two voxels"),
            "partition": na.plot.partition(three, by="region", title="Unique and shared parts")}


def times(rng) -> dict:
    """What the first layer knows drives early, what the last knows drives late: encoding bin by bin."""
    bins = np.arange(-0.2, 0.85, 0.1)
    vision, language = rng.standard_normal((2, N, 4))
    weight = {"vision": np.exp(-((bins - 0.1) / 0.1) ** 2), "language": np.exp(-((bins - 0.5) / 0.15) ** 2)}
    signal = sum((x @ rng.standard_normal((4, 2)))[:, :, None] * weight[m]
                 for m, x in (("vision", vision), ("language", language)))
    responses = make_responses(signal + 2 * rng.standard_normal(signal.shape), IDS, ["STS", "IFG"], kind="seeg",
                               time_bins=bins)
    layers = [_space(rng, (1 - k / 5) * vision + k / 5 * language, "net", layer=f"block.{k}", depth=k / 5)
              for k in range(6)]
    scores = na.encode(layers, responses, metric=("r.pooled",), n_permutations=200, n_splits=3)
    ends = ["net:block.0:all", "net:block.5:all"]
    return {"time_course": na.plot.time_course(scores, spaces=ends, title="First layer early, last layer late"),
            "layer_time": na.plot.layer_time(scores, title="Deeper layers, later times")}


def heads(rng) -> dict:
    """EEG of 32 sensors: a model of pictures over the back of the head, one of words over its top."""
    import mne

    montage = mne.channels.make_standard_montage("biosemi32")
    places = np.array([montage.get_positions()["ch_pos"][c] for c in montage.ch_names])
    bins = np.array([0.1, 0.2, 0.3, 0.4])
    x, y = rng.standard_normal((2, N, 3))
    signal = np.zeros((N, 32, len(bins)))
    for cause, sensor, peak in ((x, "Oz", 0.1), (y, "Cz", 0.4)):
        gain = np.exp(-(np.linalg.norm(places - places[montage.ch_names.index(sensor)], axis=1) / 0.085) ** 2)
        course = gain[:, None] * np.exp(-((bins - peak) / 0.1) ** 2)
        signal += (cause @ rng.standard_normal(3))[:, None, None] * course
    responses = make_responses(signal + rng.standard_normal(signal.shape), IDS, montage.ch_names, kind="eeg",
                               time_bins=bins)
    scores = na.encode([_space(rng, x, "picture-net"), _space(rng, y, "word-net")], responses, metric=("r.pooled",),
                       n_permutations=500, n_splits=3)
    return {"topomap": na.plot.topomap(scores, "biosemi32", title="Pictures at the back, words at the top")}


def cortex(rng) -> dict:
    """Networks of Seitzman et al. 2018, each vertex taken to the nearest region within 22 mm."""
    from nilearn import datasets

    table = datasets.fetch_coords_seitzman_2018()
    mesh = datasets.load_fsaverage("fsaverage5")["pial"]
    rois = table["rois"][["x", "y", "z"]].to_numpy(float)
    networks = np.array(table["networks"]).astype(str)
    values, q = {}, {}
    strength = dict(zip(sorted(set(networks)), rng.uniform(0, 0.1, len(set(networks)))))
    strength |= {"Visual": 0.34, "DorsalAttention": 0.22, "Auditory": 0.18, "DefaultMode": 0.15}
    thickness = datasets.load_fsaverage_data(mesh="fsaverage5", mesh_type="inflated", data_type="thickness")
    for side in ("left", "right"):
        near = np.linalg.norm(mesh.parts[side].coordinates[:, None] - rois, axis=-1)
        nearest = near.argmin(1)
        score = np.array([strength[networks[k]] for k in nearest]) + rng.normal(0, 0.01, len(nearest))
        cortex = thickness.data.parts[side].squeeze() > 0.1  # mm; the rest is the medial wall
        values[side] = np.where(cortex & (near.min(1) < 22), score, np.nan)
        q[side] = np.where(score > 0.12, 0.01, 0.5)
    return {"surface": na.plot.surface(values, q=q, label="Pearson r (pooled over folds)",
                                       title="Scores on the cortex (simulated)")}


def geometry(rng) -> dict:
    """Dissimilarities of four kinds of things, in an early and a late region."""
    kinds = np.repeat(["animal", "face", "place", "tool"], 14)
    ids = [f"o{k:02d}" for k in range(len(kinds))]
    centre = {k: rng.standard_normal(20) for k in dict.fromkeys(kinds)}
    pattern = {"early": rng.standard_normal((len(kinds), 20)),
               "late": np.array([centre[k] for k in kinds]) + 0.9 * rng.standard_normal((len(kinds), 20))}
    made = [make_features(pattern[r], ids, model=r) for r in pattern]
    found = rdms(made)
    named = make_rdms(found.values, pairs=(found.stimulus_a.values, found.stimulus_b.values), targets=list(pattern))
    table = pd.DataFrame({"category": kinds}, index=ids)
    return {"rdm_panel": na.plot.rdm_panel(named, table, title="Dissimilarities, by category"),
            "mds": na.plot.mds(named, table, title="The same on a plane")}


def words(rng) -> dict:
    """Differences with intervals, and a scatter."""
    ids = [f"o{k}" for k in range(60)]
    latent = rng.standard_normal((60, 6))
    spaces = [make_features(latent + s * rng.standard_normal((60, 6)), ids, model=m)
              for m, s in (("near", 0.4), ("middle", 0.8), ("far", 3.0))]
    targets = make_responses(latent @ rng.standard_normal((6, 40)) + rng.standard_normal((60, 40)), ids,
                             [f"v{k}" for k in range(40)], neuroid_coords={"region": np.repeat(["IT", "STS"], 20)})
    scores = na.compare(spaces, targets, metric=["rsa.spearman"], n_permutations=100, n_bootstraps=200,
                        keep=["bootstrap"])
    names = [str(s) for s in scores["space"].values]
    diffs = score_tools.concat([score_tools.diff(scores, names[0], other) for other in names[1:]])
    rating = rng.uniform(0, 10, 120)
    return {"difference": na.plot.difference(diffs, title="Which model is nearer?"),
            "scatter": na.plot.scatter(rating, rating / 15 + rng.normal(0, 0.1, 120), xlabel="human rating (0 to 10)",
                                       ylabel="cosine similarity", ids=[f"pair {k}" for k in range(120)],
                                       name_extremes=4, title="Ratings and a model")}


def probes(rng) -> dict:
    """Two modalities that share what they say, and lie the further apart the deeper; a read that an answer needs."""
    shared, away = rng.standard_normal((N, 16)), np.eye(16)[0]
    image, text = ([_space(rng, shared + side * 1.5 * k * away, "two-towers", f"b.{k}", k / 3, noise=1.5 - 0.4 * k)
                    for k in range(4)] for side in (-1, 1))
    gap = na.probes.modality_gap(image, text, n_permutations=99, n_bootstraps=100)
    blocks, edges = np.arange(8), {"image->question": (2, 60), "question->last": (5, 70), "image->last": (4, 2)}
    lost = np.concatenate([-most * np.exp(-((blocks - at) ** 2) / 3) for at, most in edges.values()])
    score = (lost + rng.normal(0, 1, len(lost)))[None, :, None]
    layers, dims = [f"lm.layers.{k}" for k in blocks] * len(edges), ("metric", "space", "target")
    streams = np.repeat(list(edges), len(blocks))
    flow = score_tools.make(
        {"score": (dims, score), "ci_low": (dims, score - 5), "ci_high": (dims, score + 5), "n": (("target",), [40])},
        {"metric": ["flow.relative"], "target": ["answer"], "space": [f"vlm:{a}:{b}" for a, b in zip(layers, streams)],
         "model": ("space", ["vlm"] * len(layers)), "layer": ("space", layers), "stream": ("space", streams)},
        {"analysis": "information_flow", "window": 3, "n_stimuli": 50, "share_correct": 0.8, "n_answered_correctly": 40,
         "interval": "95% percentile interval over 1,000 resamples of stimuli (simulated)"})
    plane = na.plot.gap_plane(image[-1], text[-1], names=("image", "text"), title="Two modalities (simulated)")
    return {"gap_plane": plane,
            "gap_curves": na.plot.gap_curves(gap), "knockout_curves": na.plot.knockout_curves(flow)}


def _space(rng, values, model, layer="", depth=np.nan, noise=0.5, ids=IDS):
    return make_features(values + noise * rng.standard_normal(values.shape), ids, model=model, layer=layer, depth=depth)


def _layer(rng, causes, model, k, low, high):
    mixed = low * causes["low"] @ rng.standard_normal((6, 8)) + high * causes["high"] @ rng.standard_normal((6, 8))
    return _space(rng, mixed, model, f"b.{k}", k / 4, noise=1.0)


def _electrodes(rng) -> pd.DataFrame:
    """Shafts of eight contacts from the side towards the middle, MNI (mm)."""
    rows = []
    for shaft in range(15):
        side = rng.choice([-1, 1])
        outer = np.array([side * 60, rng.uniform(-80, 30), rng.uniform(-25, 45)])
        rows += [(f"{'RL'[int(side < 0)]}{shaft}.{k}", *(outer - [side * 5 * k, 0, 0])) for k in range(8)]
    return pd.DataFrame(rows, columns=["neuroid_id", "x", "y", "z"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/gallery"))
    parser.add_argument("--only", action="append", default=[], help="A group, such as sites (repeat); all by default.")
    parser.add_argument("--random-state", type=int, default=0)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small simulated sets have few independent samples: not the point here
        main(options.out, options.only, options.random_state)
