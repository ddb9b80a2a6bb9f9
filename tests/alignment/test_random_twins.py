"""An untrained network is no zero point: random twins against visual cortex."""

import pytest

import neuroalign as na


@pytest.mark.slow
def test_random_networks_do_well_in_early_visual_cortex_and_badly_in_it(mirror, tmp_path):
    images, targets = na.load_stimuli("objects92"), na.load_rdms("objects92")
    twins = [f"efficientnet-lite0@random.{seed}" for seed in range(5)]
    features = na.extract(twins, images, layers=["blocks.14"], pooling="flatten", store=tmp_path, progress=False)
    scores = na.compare(features, targets, metric="rsa.spearman.group", n_permutations=0)["score"].squeeze()
    # Ranges of random networks (group mean RDM): human IT below .15, early visual cortex above .40. They were found
    # on two draws of another initialisation; single draws of ours leave them (IT .08 to .17, EVC .38 to .51).
    assert scores.sel(target="hIT").median() < 0.15
    assert scores.sel(target="fmri_EVC").median() > 0.40
