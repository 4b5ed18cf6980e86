"""Fields of the forms of `train` and `tune`: what learns, how, and what it must show."""

from __future__ import annotations

import operator

from airflow.sdk import Param

from vidpipe.datasets.presets import MIXES, PRESETS
from vidpipe.evaluation.gates import PREVIEW_VIDEOS, Gate
from vidpipe.models.architectures import BACKBONES, CLASSIFICATION, Network, Sampling
from vidpipe.orchestration.params import number_param, text_param
from vidpipe.training.settings import PRECISIONS, SCHEDULES, WINDOW_S, FitSettings
from vidpipe.training.space import SEARCHED


def architectures_param(description: str) -> Param:
    """Which networks are trained; the description says what is done with several."""
    return Param(
        ["attention"],
        type="array",
        items={"type": "string", "enum": list(CLASSIFICATION)},
        minItems=1,
        uniqueItems=True,
        examples=list(CLASSIFICATION),
        values_display={key: f"{key}: {spec.description}" for key, spec in CLASSIFICATION.items()},
        title="Architectures",
        description=f"The kinds of network. {description}",
    )


def network_params() -> dict[str, Param]:
    """What a network sees, and through what."""
    section = "Network"
    return {
        "backbone": Param(
            None,
            type=["null", "string"],
            enum=[None, *BACKBONES],
            values_display={
                "null": "none: layers of its own",
                **{key: f"{key}: {spec.description}" for key, spec in BACKBONES.items()},
            },
            title="Backbone",
            description="A network for pictures that sees each frame.",
            section=section,
        ),
        "weights": text_param(
            "Weights of the backbone",
            "Pretrained weights file: s3://bucket/resnet50/model.json (TensorFlow.js) or .h5."
            " Empty: those that `vidpipe fetch-weights` brought for the backbone; if there are"
            " none, random weights, which must be fine-tuned.",
            section=section,
        ),
        "fine_tune": Param(
            None,
            type=["null", "boolean"],
            title="Fine-tune the backbone",
            description=(
                "Let its weights learn, too: for many labels. Else it is frozen, what it sees is"
                " computed once for each video, and augmentation does nothing. Empty: only where it"
                " has no weights."
            ),
            section=section,
        ),
        "frames": number_param(
            "Frames",
            f"Of each clip, spread evenly. {_defaults('sampling.frames')} Behind a backbone: 8.",
            "integer",
            section,
            minimum=1,
            maximum=256,
        ),
        "height": number_param(
            "Height",
            "Pixels to which each frame is resized. Small things in large pictures want more."
            f" {_defaults('sampling.height')} Behind a backbone: as it was made for.",
            "integer",
            section,
            minimum=16,
            maximum=2048,
        ),
        "width": number_param(
            "Width",
            "As height.",
            "integer",
            section,
            minimum=16,
            maximum=2048,
        ),
        "window_s": number_param(
            "Seconds of a clip",
            "So much of a video a clip shows: for what is short. Empty: the whole of it; of labels"
            f" with times {WINDOW_S:g} s.",
            "number",
            section,
            exclusiveMinimum=0,
            maximum=600,
        ),
        "clips": Param(
            Sampling.clips,
            type="integer",
            minimum=1,
            maximum=64,
            title="Clips of each video",
            description=(
                "Spread evenly; it learns from each, and what it says of them is averaged. Of"
                " labels with times it is not chosen: clips follow each other, half over the one"
                " before."
            ),
            section=section,
        ),
        "crops": Param(
            Sampling.crops,
            type="integer",
            minimum=1,
            maximum=3,
            title="Crops of each frame",
            description=(
                "1: the whole frame is squeezed to the size that is asked for. 3: its left, middle"
                " and right, or top and bottom, each a clip, which keep the shape of things."
            ),
            section=section,
        ),
        "sound": Param(
            Sampling.sound,
            type="boolean",
            title="It also hears",
            description=(
                "What is heard while a clip lasts is told beside what is seen. Where a video has no"
                " sound, something that it learns stands for it."
            ),
            section=section,
        ),
        "dropout": number_param(
            "Dropout",
            "Share of the features that are left out at random while it learns."
            f" {_defaults('dropout')} Behind a backbone: 0.5.",
            "number",
            section,
            minimum=0,
            maximum=0.9,
        ),
        "recurrent": Param(
            Network.recurrent,
            type="string",
            enum=["gru", "lstm"],
            title="Recurrent layer",
            description="For cnn_rnn.",
            section=section,
        ),
        "bidirectional": Param(
            Network.bidirectional,
            type="boolean",
            title="Read the frames backwards, too",
            description="For cnn_rnn.",
            section=section,
        ),
    }


def training_params() -> dict[str, Param]:
    """How a network is trained; what is left empty is chosen by its architecture."""
    section, details = "Training", "Training in detail"
    return {
        "augmentation": Param(
            "article",
            type="string",
            enum=list(PRESETS),
            values_display={key: f"{key}: {preset.description}" for key, preset in PRESETS.items()},
            title="Augmentation",
            description=(
                "What chance makes of the clips that it learns from, so that it learns more. Behind"
                " a frozen backbone nothing is done, nor mirrored, nor mixed."
            ),
            section=section,
        ),
        "mirrored": Param(
            FitSettings.mirrored,
            type="boolean",
            title="Left and right mean the same",
            description=(
                "In this task a video that is mirrored keeps its label: augmentation mirrors half"
                " of the clips. Not where left and right, or writing, tell classes apart."
            ),
            section=section,
        ),
        "epochs": number_param(
            "Epochs",
            f"Passes over the training videos, at most. {_defaults('epochs')} Behind a frozen"
            " backbone: 40, a fine-tuned one: 10.",
            "integer",
            section,
            minimum=1,
            maximum=1000,
        ),
        "batch_size": number_param(
            "Batch size",
            f"Videos a step. {_defaults('batch_size')} Behind a backbone: 8.",
            "integer",
            section,
            minimum=1,
            maximum=1024,
        ),
        "learning_rate": number_param(
            "Learning rate",
            f"The largest size of AdamW's steps. {_defaults('learning_rate')} Behind a frozen"
            " backbone: 0.001, a fine-tuned one: 0.0001.",
            "number",
            section,
            exclusiveMinimum=0,
            maximum=1,
        ),
        "patience": Param(
            FitSettings.patience,
            type="integer",
            minimum=0,
            maximum=1000,
            title="Patience",
            description=(
                "It ends when the validation loss was not better for so many epochs; 0: never. The"
                " weights of the best epoch are kept then; those of the last where a cosine came to"
                " its end."
            ),
            section=section,
        ),
        "schedule": Param(
            None,
            type=["null", "string"],
            enum=[None, *SCHEDULES],
            values_display={
                "null": "as the architecture has it",
                **{key: f"{key}: {words}" for key, words in SCHEDULES.items()},
            },
            title="Schedule",
            description=(
                "How the learning rate goes. The architectures have: cosine for cnn3d, transformer"
                " and behind a backbone, constant for the others."
            ),
            section=details,
        ),
        "warmup_share": Param(
            FitSettings.warmup_share,
            type="number",
            minimum=0,
            maximum=0.5,
            title="Warm-up",
            description="Of the cosine: share of the steps in which the learning rate grows.",
            section=details,
        ),
        "weight_decay": Param(
            FitSettings.weight_decay,
            type="number",
            minimum=0,
            maximum=1,
            title="Weight decay",
            description="AdamW's: draws weights towards zero.",
            section=details,
        ),
        "label_smoothing": Param(
            FitSettings.label_smoothing,
            type="number",
            minimum=0,
            maximum=0.5,
            title="Label smoothing",
            description="Share of the truth that is spread over all classes: for doubtful labels.",
            section=details,
        ),
        "mix": Param(
            FitSettings.mix,
            type="string",
            enum=list(MIXES),
            values_display={key: f"{key}: {words}" for key, words in MIXES.items()},
            title="Mixing of clips",
            description=(
                "Each clip that it learns from is mixed with another, and so are their labels: for"
                " few videos, many epochs."
            ),
            section=details,
        ),
        "oversampling": Param(
            FitSettings.oversampling,
            type="integer",
            minimum=1,
            maximum=100,
            title="Rare classes more often",
            description=(
                "Clips of rare classes come up to so many times an epoch, augmented otherwise each"
                " time, until these are as frequent as the others; 1: each once."
            ),
            section=details,
        ),
        "balanced": Param(
            FitSettings.balanced,
            type="boolean",
            title="Class weights",
            description="Count all classes the same, however few videos they have.",
            section=details,
        ),
        "ema": Param(
            FitSettings.ema,
            type="number",
            minimum=0,
            exclusiveMaximum=1,
            title="Average of the weights",
            description=(
                "Momentum of the moving average that is kept in place of the weights, such as 0.99"
                " for some hundred steps; 0: none."
            ),
            section=details,
        ),
        "accumulation": Param(
            FitSettings.accumulation,
            type="integer",
            minimum=1,
            maximum=64,
            title="Gradient accumulation",
            description=(
                "Learns from each batch in so many pieces, where it is too large for the memory."
            ),
            section=details,
        ),
        "precision": Param(
            FitSettings.precision,
            type="string",
            enum=list(PRECISIONS),
            values_display={key: f"{key}: {words}" for key, words in PRECISIONS.items()},
            title="Precision",
            description="What it computes in while it learns; the model that comes of it: float32.",
            section=details,
        ),
    }


def tuning_params() -> dict[str, Param]:
    """What a tuning searches, and how much it may take."""
    section = "Search"
    return {
        "search": Param(
            ["learning_rate", "batch_size", "weight_decay", "dropout"],
            type="array",
            items={"type": "string", "enum": list(SEARCHED)},
            uniqueItems=True,
            examples=list(SEARCHED),
            values_display={name: f"{name}: {words}" for name, words in SEARCHED.items()},
            title="Search",
            description=(
                "What is tried out. The architecture is, too, where several are chosen; all else is"
                " as below."
            ),
            section=section,
        ),
        "trials": Param(
            20,
            type="integer",
            minimum=1,
            maximum=500,
            title="At most so many trials",
            description="Each is a training; most end early, as others do better.",
            section=section,
        ),
        "max_hours": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            title="At most so many hours",
            description=(
                "After so many hours no further trial is begun; those at work go on to their end."
                " Empty: no limit."
            ),
            section=section,
        ),
        "min_epochs": Param(
            3,
            type="integer",
            minimum=1,
            maximum=1000,
            title="Epochs that each trial has",
            description="Before, none is ended because others do better.",
            section=section,
        ),
        "reduction": Param(
            3,
            type="integer",
            minimum=2,
            maximum=10,
            title="One of so many goes on",
            description=(
                "After these epochs, after so many times as many, and so on (asynchronous"
                " successive halving)."
            ),
            section=section,
        ),
        "ask_hours": Param(
            24,
            type="number",
            minimum=0,
            maximum=720,
            title="Ask for so many hours whether to train",
            description=(
                "When the best is known the run waits so long for a click on Approve, which trains"
                " with it. 0: it does not ask."
            ),
            section=section,
        ),
    }


def gate_params() -> dict[str, Param]:
    """What a model must show before it is trusted."""
    return {
        "approve": Param(
            False,
            type="boolean",
            title="Ask before it becomes the champion",
            description=(
                "If it is better, the run shows what would change, and waits for a click on"
                " Approve."
            ),
            section="Promotion",
        ),
        "ask_hours": Param(
            24,
            type="number",
            exclusiveMinimum=0,
            maximum=720,
            title="Wait so many hours for the answer",
            description="Where nobody answers, it does not become the champion.",
            section="Promotion",
        ),
        "preview_videos": Param(
            PREVIEW_VIDEOS,
            type="integer",
            minimum=1,
            maximum=10_000,
            title="Videos of the preview",
            description=(
                "So many that the champion labelled, or some more, the new model looks at to show"
                " what would change."
            ),
            section="Promotion",
        ),
        "margin": Param(
            Gate.margin,
            type="number",
            minimum=0,
            maximum=1,
            title="Margin",
            description=(
                "It becomes the champion if its accuracy, of several labels its mean average"
                " precision, is higher by more than this."
            ),
            section="Promotion",
        ),
        "accept_precision": Param(
            Gate.accept_precision,
            type="number",
            minimum=0,
            maximum=1,
            title="Accepted labels are right in this share",
            description=(
                "For each label the lowest score with which that is so on the validation videos"
                " becomes its threshold; labels with lower scores are kept, but marked as not"
                " accepted."
            ),
            section="Promotion",
        ),
        "confidence": Param(
            Gate.confidence,
            type="number",
            minimum=0,
            maximum=1,
            title="Confidence",
            description=(
                "How sure that must be: in this share of drawings from the test videos it is so;"
                " with fewer than 30 an exact test says how sure it can be at most."
            ),
            section="Promotion",
        ),
        "slice_limit": Param(
            Gate.slice_limit,
            type="number",
            minimum=0,
            maximum=1,
            title="Limit of a slice",
            description=(
                "It does not become the champion if it is worse by more than this on"
                " short videos, on small ones, on one source … of which there are 30 or more."
            ),
            section="Promotion",
        ),
    }


def _defaults(name: str) -> str:
    """What the architectures have where nothing is chosen, each value once."""
    values: dict[str, list[str]] = {}
    for key, spec in CLASSIFICATION.items():
        values.setdefault(f"{operator.attrgetter(name)(spec):g}", []).append(key)
    return "Empty: " + "; ".join(f"{v} ({', '.join(keys)})" for v, keys in values.items()) + "."
