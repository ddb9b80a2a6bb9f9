"""Alice in Wonderland: does the surprisal of words predict six language regions beyond word rate and sound power?

Data: Brennan et al. 2016, Brain & Language 157:81 (manifest ``alice_fmri``, 27 listeners). The mean over listeners
is predicted in six blocks of time; the null shifts surprisal in a circle against its words and refits everything.
"""

import argparse
from pathlib import Path

import neuroalign as na


def main(out: Path, model: str, n_permutations: int, random_state: int) -> None:
    """Extract, encode, draw and report."""
    words = na.load_stimuli("alice_fmri")
    surprisal = na.extract(model, words, streams=["word"], outputs=["surprisal"], store=out / "store",
                           random_state=random_state)
    responses, reliability = na.prepare_responses("alice_fmri", high_pass=1 / 128, average_subjects=True,
                                                  random_state=random_state)
    scores = na.encode(surprisal, responses, nuisance=["word_rate", "sound_power"], cv="blocks", n_splits=6, hrf="spm",
                       at="offset", metric=("r.pooled", "r.foldmean"), ceiling=reliability,
                       n_permutations=n_permutations, random_state=random_state)

    (out / "figures").mkdir(parents=True, exist_ok=True)
    na.plot.bars(scores, "r.pooled").savefig(out / "figures" / "regions.pdf")
    na.scores.save(scores, out / "scores" / "surprisal.nc")
    print(na.scores.to_frame(scores)[["metric", "neuroid", "score", "baseline", "ceiling", "p", "q"]].round(4))
    print(na.report(scores, out / "report.html", title="Surprisal in Alice"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/alice"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--random-state", type=int, default=0)
    options = parser.parse_args()
    main(options.out, options.model, options.permutations, options.random_state)
