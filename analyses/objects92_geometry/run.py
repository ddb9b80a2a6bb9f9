"""92 object images: which layers of a vision network, and which names, share the geometry of IT, EVC and behaviour?

Data: Kriegeskorte et al. 2008, Mur et al. 2013, Cichy et al. 2014 (manifest ``objects92``). Every layer of
EfficientNet-Lite0 against five random twins; per-subject RSA with the ceiling of the same aggregation.
"""

import argparse
from pathlib import Path

import neuroalign as na

REGIONS = ("hIT", "fmri_IT", "monkeyIT", "fmri_EVC", "behaviour")


def main(out: Path, n_twins: int, random_state: int) -> None:
    """Extract, compare, draw and report."""
    images = na.load_stimuli("objects92")
    models = ["efficientnet-lite0", *[f"efficientnet-lite0@random.{seed}" for seed in range(n_twins)]]
    # 1,000 random components keep the distances of feature maps with up to 400,000 units.
    features = na.extract(models, images, pooling="flatten", projection=1000, store=out / "store",
                          random_state=random_state)
    targets = na.load_rdms("objects92")
    targets = targets.sel(target=[region in REGIONS for region in targets["region"].values])
    scores = na.compare(features, targets, n_permutations=1000, n_bootstraps=500, random_state=random_state)
    published = na.compare(na.load_rdms("objects92", part="models"), targets, n_permutations=1000,
                           random_state=random_state)

    (out / "figures").mkdir(parents=True, exist_ok=True)
    na.plot.layer_profile(scores, targets=REGIONS).savefig(out / "figures" / "layers.pdf")
    na.plot.matrix(published, targets=REGIONS).savefig(out / "figures" / "published_models.pdf")
    na.scores.save(scores, out / "scores" / "layers.nc")
    na.scores.save(published, out / "scores" / "published_models.nc")
    print(na.report([scores, published], out / "report.html", title="Geometry of 92 objects"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/objects92"))
    parser.add_argument("--twins", type=int, default=5)
    parser.add_argument("--random-state", type=int, default=0)
    options = parser.parse_args()
    main(options.out, options.twins, options.random_state)
