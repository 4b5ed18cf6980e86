"""Fields of the forms of `train` and `tune`: what is learnt from."""

from __future__ import annotations

from airflow.sdk import Param

from vidpipe.datasets.kinds import KINDS, SINGLE
from vidpipe.datasets.missing_data import INCOMPLETE, KEEP, PSEUDO_LABEL_SCORE
from vidpipe.datasets.splits import NEAR_DUPLICATE_BITS
from vidpipe.orchestration.params import text_param


def dataset_params() -> dict[str, Param]:
    """What labels are told of, how videos are split, and what stands for what is missing."""
    return {
        "kind": Param(
            SINGLE,
            type="string",
            enum=list(KINDS),
            values_display={key: f"{key}: {words}" for key, words in KINDS.items()},
            title="Kind of labels",
            description=(
                "Where people contradict each other, the most votes decide, or of several labels"
                " and of labels with times what at least half of them say."
            ),
            section="Dataset",
        ),
        "test_share": Param(
            0.2,
            type="number",
            minimum=0.05,
            maximum=0.5,
            title="Share for the test",
            description="This share of the videos is kept from training, to measure the model on.",
            section="Dataset",
        ),
        "near_duplicate_bits": Param(
            NEAR_DUPLICATE_BITS,
            type="integer",
            minimum=0,
            maximum=20,
            title="Near duplicates differ in at most so many bits",
            description=(
                "Of the 64 by which frames are told apart. Videos that look the same go to one"
                " split, as if they were of one group; more bits find more of them, and chance"
                " likeness, too. 0: they are not looked for, and may leak into the test."
            ),
            section="Dataset",
        ),
        "seed": Param(
            0,
            type="integer",
            minimum=0,
            maximum=2**31 - 1,
            title="Seed",
            description=(
                "Chooses the split and the first weights; the same seed gives the same again, and"
                " new videos are added to it. With another seed the champion may meet videos in"
                " the test that it learnt from."
            ),
            section="Dataset",
        ),
        **_missing_data_params(),
    }


def _missing_data_params() -> dict[str, Param]:
    """What stands for what is missing in a training."""
    section = "Missing data"
    return {
        "incomplete": Param(
            KEEP,
            type="string",
            enum=list(INCOMPLETE),
            values_display={key: f"{key}: {words}" for key, words in INCOMPLETE.items()},
            title="Videos of which frames are missing",
            description="What stands for the frames themselves, the form of ingest says.",
            section=section,
        ),
        "pseudo_labels_of": text_param(
            "Labels of this version of the model stand for missing ones",
            "Such as 3: videos that nobody labelled are learnt from with the label that it gave"
            " them. They never judge. Empty: only what people say counts.",
            pattern="^[0-9]+$",
            section=section,
        ),
        "pseudo_label_score": Param(
            PSEUDO_LABEL_SCORE,
            type="number",
            minimum=0,
            maximum=1,
            title="If its score is at least",
            description="Wrong labels are learnt as well as right ones: take few, and sure ones.",
            section=section,
        ),
    }
