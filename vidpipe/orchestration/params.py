"""Fields of the trigger forms that several DAGs have, or that tell of what the code offers."""

from __future__ import annotations

import importlib.util
import operator
from typing import Any

from airflow.sdk import Param

from vidpipe.config import RUNTIMES, ExtractSettings, load_settings
from vidpipe.datasets.kinds import KINDS, SINGLE
from vidpipe.datasets.missing_data import INCOMPLETE, KEEP, PSEUDO_LABEL_SCORE
from vidpipe.datasets.splits import NEAR_DUPLICATE_BITS
from vidpipe.evaluation.gates import PREVIEW_VIDEOS, Gate
from vidpipe.lake.layout import TASK_PATTERN
from vidpipe.media import options
from vidpipe.models.architectures import BACKBONES, CLASSIFICATION, Network, Sampling
from vidpipe.reasons import RETRY_REASONS
from vidpipe.training.settings import PRECISIONS, SCHEDULES, WINDOW_S, FitSettings
from vidpipe.training.space import SEARCHED


def task_param() -> Param:
    """What is to be learnt or labelled."""
    return Param(
        type="string",
        pattern=TASK_PATTERN,
        title="Task",
        description="What the labels tell, in one word of small letters, such as motion.",
    )


def text_param(title: str, description: str, **kwargs: Any) -> Param:
    """A text that may be left empty."""
    return Param(None, type=["null", "string"], title=title, description=description, **kwargs)


def runtime_params() -> dict[str, Param]:
    """Where the stages of a run are at work."""
    settings = load_settings()
    # Airflow's image has nothing of what a stage needs.
    has_stages = importlib.util.find_spec("pyiceberg") is not None
    return {
        "runtime": Param(
            settings.runtime,
            type="string",
            enum=[name for name in RUNTIMES if name != "local" or has_stages],
            values_display={
                "local": "local: a process on the machine of its task",
                "kubernetes": "kubernetes: a pod each",
            },
            title="Stages run as",
            description="All stages of this run do the same work, whichever is chosen.",
            section="Where it runs",
        ),
        "max_wait_hours": Param(
            settings.kubernetes.max_wait_s / 3600,
            type="number",
            exclusiveMinimum=0,
            title="Wait for a node at most so many hours",
            description="A pod whose CPU, memory or GPU is taken for longer fails its task.",
            section="Where it runs",
        ),
        "max_pod_hours_run": _ceiling_param(
            "max_pod_hours_run", "pod", settings.kubernetes.max_pod_hours_run
        ),
        "max_gpu_hours_run": _ceiling_param(
            "max_gpu_hours_run", "GPU", settings.kubernetes.max_gpu_hours_run
        ),
    }


def _ceiling_param(name: str, kind: str, configured: float) -> Param:
    else_what = f"{configured:g}" if configured else "no ceiling"
    return Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        title=f"Spend at most so many {kind} hours",
        description=(
            f"When its pods took so many ({name}), no further one is started; what is done is kept."
            f" Empty: as configured, {else_what}."
        ),
        section="Where it runs",
    )


def pod_params() -> dict[str, Param]:
    """What the pods of a training have; empty: as in the file of resources."""
    return {
        "gpus": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            maximum=16,
            title="GPUs",
            description="For each pod of the training. Empty: as configured, none by default.",
            section="Where it runs",
        ),
        "workers": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=64,
            title="Pods",
            description=(
                "So many train one model together, for more GPUs than one machine has. They begin"
                " when all of them have a node. Empty: as configured, one by default."
            ),
            section="Where it runs",
        ),
        "memory": text_param(
            "Memory",
            "For each pod of the training, such as 16Gi. Empty: as configured.",
            pattern=r"^[0-9]+(\.[0-9]+)?[MGT]i?$",
            section="Where it runs",
        ),
    }


def budget_params(
    max_videos: int, max_hours: float, first: str = "The newest come first"
) -> dict[str, Param]:
    """How much a run takes on; the rest is left to the runs after it."""
    return {
        "max_videos": Param(
            max_videos,
            type=["null", "integer"],
            minimum=1,
            title="At most so many videos",
            description=f"{first}; later runs take the others. Empty: no limit.",
            section="Budget",
        ),
        "max_hours": Param(
            max_hours,
            type=["null", "number"],
            exclusiveMinimum=0,
            title="At most so many hours",
            description=(
                "After so many hours no further video is begun, and what is done is published; "
                "later runs take the others. Empty: no limit."
            ),
            section="Budget",
        ),
    }


def extraction_params(defaults: ExtractSettings) -> dict[str, Param]:
    """What is kept of a video; what the form does not ask for is as configured."""

    def number(name: str, title: str, description: str, low: float, high: float):
        default = getattr(defaults, name)
        kind = "integer" if isinstance(default, int) else "number"
        return name, Param(
            default,
            type=kind,
            minimum=low,
            maximum=high,
            title=title,
            description=description,
            section="Extraction",
        )

    def choice(name: str, title: str, words: dict[str, str], description: str):
        return name, Param(
            getattr(defaults, name),
            type="string",
            enum=list(words),
            values_display={word: f"{word}: {told}" for word, told in words.items()},
            title=title,
            description=description,
            section="Extraction",
        )

    fields = [
        choice(
            "sampling",
            "Sampling",
            options.SAMPLINGS,
            "Which frames are kept. Each keeps its own time, whatever is chosen.",
        ),
        number(
            "fps",
            "Frames a second",
            "How many are kept of each second of video, for the samplings fps and reference. What"
            " is known keeps those it has, but for videos that are tried again.",
            0.001,
            120,
        ),
        choice("detector", "Shots are found by", options.DETECTORS, "For the sampling scenes."),
        number("frames_per_shot", "Frames a shot", "For the sampling scenes.", 1, 100),
        number(
            "short_side",
            "Shorter side in pixels",
            "Kept frames are made this small, never larger; 0 keeps their size.",
            0,
            4320,
        ),
        number(
            "width",
            "Exact width in pixels",
            "With a height: all frames get this very size, whatever the shorter side; 0: no.",
            0,
            16384,
        ),
        number("height", "Exact height in pixels", "With a width; 0: no.", 0, 16384),
        choice("fit", "To get an exact size", options.FITS, "Nothing is ever stretched."),
        number(
            "jpeg_quality",
            "JPEG quality",
            "1 is worst and smallest, 100 is best; 90 shows no loss.",
            1,
            100,
        ),
        choice(
            "missing_frames",
            "Frames that do not decode",
            options.MISSING_FRAMES,
            "What stands for them; rows that are made up say so (imputed_by).",
        ),
        choice(
            "missing_audio",
            "Sound that is not there",
            options.MISSING_AUDIO,
            "What stands for it; rows that are made up say so (imputed_by).",
        ),
        number(
            "max_missing_share",
            "Share of frames that may be missing",
            "A video that lacks more of its frames is quarantined.",
            0,
            1,
        ),
    ]
    return dict(fields)


def retry_params() -> dict[str, Param]:
    """What is to be tried again though nothing changed."""
    return {
        "retry_reasons": Param(
            None,
            type=["null", "array"],
            items={"type": "string", "enum": list(RETRY_REASONS)},
            examples=list(RETRY_REASONS),
            title="Try again for these reasons",
            description=(
                "Videos that were quarantined or failed for one of them, such as truncated, are "
                "tried once more, before the new ones. None chosen: none are."
            ),
            section="Try again",
        ),
        "retry_videos": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            title="Try these videos again",
            description=(
                "A video_id or a URI (s3://bucket/key) a line. What is done is not done twice, "
                "unless frames a second, size or quality are other than they were."
            ),
            section="Try again",
        ),
    }


def dataset_params() -> dict[str, Param]:
    """What the labels of a training are told of, and how its videos are split."""
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
    }


def missing_data_params() -> dict[str, Param]:
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


def architectures_param() -> Param:
    """Which networks are trained."""
    return Param(
        ["attention"],
        type="array",
        items={"type": "string", "enum": list(CLASSIFICATION)},
        minItems=1,
        uniqueItems=True,
        examples=list(CLASSIFICATION),
        values_display={key: f"{key}: {spec.description}" for key, spec in CLASSIFICATION.items()},
        title="Architectures",
        description=(
            "The kinds of network. Several are trained each by itself and ranked; the best on the"
            " validation videos meets the champion."
        ),
    )


def network_params() -> dict[str, Param]:
    """What a network sees, and through what."""
    section = "Network"
    return {
        "backbone": Param(
            None,
            type=["null", "string"],
            enum=[None, *BACKBONES],
            values_display={key: f"{key}: {spec.description}" for key, spec in BACKBONES.items()},
            title="Backbone",
            description="A network for pictures that sees each frame. Empty: layers of its own.",
            section=section,
        ),
        "weights": text_param(
            "Weights of the backbone",
            "What it learnt on other pictures: s3://bucket/resnet50/model.json (TensorFlow.js) or"
            " .h5. Empty: chance weights, which must be fine-tuned.",
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
        "frames": _number(
            "Frames",
            f"Of each clip, spread evenly. {_defaults('sampling.frames')} Behind a backbone: 8.",
            "integer",
            section,
            minimum=1,
            maximum=256,
        ),
        "height": _number(
            "Height",
            "Pixels to which each frame is resized. Small things in large pictures want more."
            f" {_defaults('sampling.height')} Behind a backbone: as it was made for.",
            "integer",
            section,
            minimum=16,
            maximum=2048,
        ),
        "width": _number(
            "Width",
            "As height.",
            "integer",
            section,
            minimum=16,
            maximum=2048,
        ),
        "window_s": _number(
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
        "dropout": _number(
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
            True,
            type="boolean",
            title="Augmentation",
            description="Turn, shift, shear and zoom the clips a little, so that it learns more.",
            section=section,
        ),
        "epochs": _number(
            "Epochs",
            f"Passes over the training videos, at most. {_defaults('epochs')} Behind a frozen"
            " backbone: 40, a fine-tuned one: 10.",
            "integer",
            section,
            minimum=1,
            maximum=1000,
        ),
        "batch_size": _number(
            "Batch size",
            f"Videos a step. {_defaults('batch_size')} Behind a backbone: 8.",
            "integer",
            section,
            minimum=1,
            maximum=1024,
        ),
        "learning_rate": _number(
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
                " weights of the best epoch are kept in any case."
            ),
            section=section,
        ),
        "schedule": Param(
            None,
            type=["null", "string"],
            enum=[None, *SCHEDULES],
            values_display={key: f"{key}: {words}" for key, words in SCHEDULES.items()},
            title="Schedule",
            description=(
                "How the learning rate goes. Empty: cosine for cnn3d, transformer and behind a"
                " backbone, constant for the others."
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
        "balanced": Param(
            FitSettings.balanced,
            type="boolean",
            title="Class weights",
            description="All classes count the same, however few videos they have.",
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
                "How sure that must be: in this share of drawings from the test videos it is so."
                " With few test videos little is sure."
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


def _number(title: str, description: str, kind: str, section: str, **bounds: Any) -> Param:
    """A number that may be left empty."""
    return Param(
        None, type=["null", kind], title=title, description=description, section=section, **bounds
    )


def _defaults(name: str) -> str:
    """What the architectures have where nothing is chosen, each value once."""
    values: dict[str, list[str]] = {}
    for key, spec in CLASSIFICATION.items():
        values.setdefault(f"{operator.attrgetter(name)(spec):g}", []).append(key)
    return "Empty: " + "; ".join(f"{v} ({', '.join(keys)})" for v, keys in values.items()) + "."
