"""The rules of all configuration keys: meaning and allowed values, for checks, template, docs and tests."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dance_ondevice.daemon.config.values import (
    absolute_path,
    below,
    boolean,
    boolean_or,
    duration,
    integer,
    is_endpoint,
    is_listen,
    is_webhook,
    number,
    one_of,
    optional,
)
from dance_ondevice.energy.choose import SOURCES
from dance_ondevice.models.registry import ARCHITECTURES
from dance_ondevice.names import INDICATORS, LEARNT

#: Names of ``energy.meter``: the best source, a particular one, or the model of the processor alone.
METERS = ("auto", *SOURCES, "modelled")
_WINDOW = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
#: The same rule as for camera names (``state.CAMERA_NAME``), since a client may be bound to its camera.
CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


#: A network runs once at the size at which its MACs are counted: this takes a board some hundred megabytes.
_MOST_COUNTED_PIXELS = 2048 * 1024


@dataclass(frozen=True)
class Rule:
    """A key's meaning, its allowed values in words, and the test of a value of the right type.

    The value of a ``secret`` key is left out of messages and logs: it may open a door.
    """

    meaning: str
    allowed: str
    test: Callable[..., bool]
    secret: bool = False


def _are_scales(value: tuple[float, ...]) -> bool:
    different = len(set(value)) == len(value) and 1 <= len(value) <= 8
    return different and all(0.1 <= scale <= 1.0 for scale in value)


def _are_classes(value: tuple[str, ...]) -> bool:
    return 2 <= len(value) <= 255 and len(set(value)) == len(value) and all(name.strip() for name in value)


def _is_window(value: str) -> bool:
    return not value or (_WINDOW.fullmatch(value) is not None and value[:5] != value[6:])


_BIND = 'tcp://host:port (port "*" for any free one) or ipc://path'
_CONNECT = "tcp://host:port or ipc://path"

#: Every key by "section.key"; its type and default are in the structs of ``config.sections``.
RULES: Mapping[str, Rule] = {
    "daemon.state_dir": Rule(
        "Folder that holds the database, samples, models and rounds.",
        'a path, absolute or from the folder of this file; "~" and "$" are not expanded',
        lambda value: bool(value.strip()) and value[0] not in "~$" and "\0" not in value,
    ),
    "ingest.bind": Rule(
        "Endpoints where frames arrive from REQ and DEALER senders.",
        f"a list of different endpoints, each {_BIND}",
        lambda value: len(set(value)) == len(value) and all(is_endpoint(item, bind=True) for item in value),
    ),
    "ingest.subscribe": Rule(
        "PUB senders to connect to; those that connect themselves need subscribe_bind.",
        f"a list of different endpoints, each {_CONNECT}",
        lambda value: len(set(value)) == len(value) and all(is_endpoint(item, bind=False) for item in value),
    ),
    "ingest.subscribe_bind": Rule(
        "Endpoints that PUB senders connect to, such as vidgear's NetGear.",
        f"a list of different endpoints, each {_BIND}",
        lambda value: len(set(value)) == len(value) and all(is_endpoint(item, bind=True) for item in value),
    ),
    "ingest.max_message_bytes": Rule(
        "Largest message that is read, all parts together, in bytes.", *integer(1024, 2147483647)
    ),
    "ingest.max_pixels": Rule(
        "Largest image that is decoded, in pixels (width x height).", *integer(1, 2147483647)
    ),
    "ingest.queue_frames": Rule(
        "Frames that may wait to be scored; beyond it the oldest are dropped and counted.",
        *integer(1, 65536),
    ),
    "ingest.max_cameras": Rule(
        "Camera names that are accepted; a new one beyond takes the place of a silent one, or is refused.",
        *integer(1, 4096),
    ),
    "ingest.max_header_bytes": Rule("Largest JSON header, in bytes.", *integer(256, 16777216)),
    "ingest.max_frames_per_second": Rule(
        "Messages a second that one sender may send in the long run; the rest is refused. 0 is no limit.",
        *number(0, 1e6),
    ),
    "ingest.max_bytes_per_second": Rule(
        "Bytes a second that one sender may send in the long run; the rest is refused. 0 is no limit.",
        *integer(0, 2**63 - 1),
    ),
    "storage.quota_bytes": Rule("Bytes that stored samples may take.", *integer(1048576, 2**63 - 1)),
    "storage.min_free_bytes": Rule(
        "Bytes left free on the disk, whatever the quota.", *integer(0, 2**63 - 1)
    ),
    "complexity.indicator": Rule(
        "How the spatial complexity of a frame is measured. With learnt, rounds learn from labelled samples "
        "at full size what the model loses on smaller ones; detail_loss until that is better than chance.",
        *one_of(*INDICATORS, LEARNT),
    ),
    "data_slimming.enabled": Rule(
        "Whether frames are dropped and downsampled by their score; without it every frame is kept as it is.",
        *boolean(),
    ),
    "data_slimming.scales": Rule(
        "Resolutions to choose from, as fractions of the frame's width and height.",
        "1 to 8 different numbers from 0.1 to 1.0",
        _are_scales,
    ),
    "data_slimming.drop_fraction": Rule(
        "Share of a camera's frames of each condition and light that is not stored. Frames with a label and "
        "the first of a new light always are.",
        *below(0, 1),
    ),
    "data_slimming.choice": Rule(
        "Which frames of a condition and light are not stored: any, by chance, or rather the simple ones.",
        *one_of("random", "complexity"),
    ),
    "data_slimming.loss_weighting": Rule(
        "Whether a stored frame counts in the training loss by the inverse of its chance to be stored; "
        'with the choice "random" all count the same.',
        *boolean(),
    ),
    "data_slimming.warmup_frames": Rule(
        "First frames of a condition and light, all kept at full resolution while their scores are learned.",
        *integer(1, 1000000),
    ),
    "data_slimming.window_frames": Rule(
        "Recent frames of the same condition and light that a score is ranked among.", *integer(8, 100000)
    ),
    "data_slimming.screen": Rule(
        "Whether frames that repeat a stored picture, or whose lower part a decoder has lost, are kept out "
        "of the store.",
        *boolean(),
    ),
    "model.architecture": Rule("Segmentation network.", *one_of(*ARCHITECTURES)),
    "model.classes": Rule(
        "Class names in the order of their ids in labels and masks.",
        "2 to 255 different names",
        _are_classes,
    ),
    "model.weights": Rule(
        "Base model to start from.",
        "a folder with model.safetensors and card.json, a file of weights (.safetensors, or a weights-only "
        'state dict .pt, .pth, .ckpt, .bin), "untrained" for a fresh network, or "" for the base model that '
        "comes with the package where architecture and classes are its own, else a fresh network",
        lambda value: "\0" not in value,
    ),
    "model.factory": Rule(
        "Your own network: a callable that takes the number of classes; it replaces the architecture.",
        *optional('"package.module:callable", or "" for none', _FACTORY),
    ),
    "model.size": Rule(
        "Width and height at which multiply-accumulates (MACs) of a new network are counted; a base model "
        "brings its own.",
        f"two integers from 16 to 8192: [width, height], together at most {_MOST_COUNTED_PIXELS} pixels",
        lambda value: all(16 <= side <= 8192 for side in value) and math.prod(value) <= _MOST_COUNTED_PIXELS,
    ),
    "network_slimming.enabled": Rule(
        'Whether rounds remove channels from the network; "auto": unless it is a published one under a class '
        "map, which loses more by a cut than a round brings back.",
        *boolean_or("auto"),
    ),
    "network_slimming.target_macs_fraction": Rule(
        "MACs to end at, as a fraction of the unslimmed network's.", *number(0.05, 1)
    ),
    "network_slimming.step": Rule(
        "MACs removed by one round, as a fraction of the unslimmed network's.", *number(0.01, 1)
    ),
    "labels.teacher": Rule(
        "Model on the board that labels frames which came without a label.",
        'a folder with model.safetensors and card.json, an .onnx file, or "" for none',
        lambda value: "\0" not in value,
    ),
    "labels.teacher_factory": Rule(
        "Your own teacher: a callable that takes the number of classes and returns it; teacher then names a "
        ".safetensors file of its weights, or nothing.",
        *optional('"package.module:callable", or "" for none', _FACTORY),
    ),
    "labels.teacher_confidence": Rule(
        "Confidence from which a teacher's pixels are believed while no label tells how sure it must be.",
        *number(0.01, 1),
    ),
    "labels.teacher_agreement": Rule(
        "Share of a teacher's believed pixels that must agree with labels where there are any.",
        *number(0.5, 1),
    ),
    # Fewer are not worth the start of a teacher (``teaching.LEAST_SAMPLES``).
    "labels.teacher_samples": Rule("Samples that a teacher labels in one run.", *integer(8, 10000)),
    "labels.budget_share": Rule(
        "Share of the day's joules that a teacher may spend, out of the same budget.", *number(0, 1)
    ),
    "labels.self_training": Rule(
        "Whether the live model labels frames for itself where it is sure; it needs labels to be measured "
        "on, and no teacher.",
        *boolean(),
    ),
    "labels.teacher_may_judge": Rule(
        "Whether a teacher's labels judge candidates where a person's cannot, in a column of their own; not "
        "where 30 frames or more of a person's labels show that it agrees too seldom.",
        *boolean(),
    ),
    "training.interval": Rule("How often it is asked whether a round should start.", *duration("1s", "365d")),
    "training.window": Rule(
        "Local time of day in which rounds may start by themselves; it may pass midnight.",
        '"HH:MM-HH:MM" that does not close at the minute it opens, or "" for any time',
        _is_window,
    ),
    "training.min_new_samples": Rule(
        "Labelled samples, not trained on yet, that a round waits for.", *integer(1, 1000000)
    ),
    "training.min_new_samples_after_drift": Rule(
        "The same of a camera that has drifted, counted since then; 0 is a quarter, 4 at the least.",
        *integer(0, 1000000),
    ),
    "training.max_round_duration": Rule(
        "Longest round, its restarts included; also the longest labelling run and evaluation of a version on "
        "probation. It is then stopped.",
        *duration("1s", "7d"),
    ),
    "training.batch_size": Rule("Samples in one optimiser step.", *integer(1, 1024)),
    "training.max_samples": Rule("Samples in one round, new and rehearsed.", *integer(1, 1000000)),
    "training.epochs": Rule("Passes over a round's samples.", *integer(1, 10000)),
    "training.learning_rate": Rule("Largest learning rate of a round.", *number(1e-7, 1)),
    "training.rehearsal_share": Rule(
        "Share of a round's samples that earlier rounds trained on, so that old scenes are not forgotten.",
        *below(0, 1),
    ),
    "training.anchors": Rule(
        "Images of the base domain with labels, rehearsed beside earlier samples: as CamVid (train and "
        "trainannot) or in two folders, images and labels.",
        'a folder, or "" for none',
        lambda value: "\0" not in value,
    ),
    "training.anchor_share": Rule(
        "Share of the rehearsed samples that are anchors, if there are any.", *number(0, 1)
    ),
    "training.gate_share": Rule(
        "Share of labelled samples held out for the promotion gate, never trained on.", *number(0.01, 0.5)
    ),
    "training.gate_block": Rule(
        "Length of the blocks of time that are held out as a whole.", *duration("0.1s", "1d")
    ),
    "training.gate_max_samples": Rule("Held-out samples that one gate uses at most.", *integer(1, 100000)),
    "training.precision": Rule(
        "Arithmetic of training; auto measures once which is faster here.", *one_of("auto", "fp32", "bf16")
    ),
    "training.device": Rule(
        "Where rounds, probation and teachers compute; auto takes an NVIDIA GPU if torch can use it.",
        *one_of("auto", "cpu", "cuda"),
    ),
    "training.threads": Rule(
        "CPU threads of a round; 0, or more than there are, takes all cores, no more than a share of "
        "processor time allows.",
        *integer(0, 1024),
    ),
    "training.priority": Rule(
        "Processor time of a round, and of estimating a new light: background gets what everything else "
        "leaves, normal its share.",
        *one_of("background", "normal"),
    ),
    "training.seed": Rule("Seed of everything that is drawn at random.", *integer(0, 2**32 - 1)),
    "training.early_stopping": Rule(
        "Whether a round that cannot reach promotion any more after a third of its steps is stopped.",
        *boolean(),
    ),
    "training.distillation": Rule(
        "Weight, beside the loss, of staying with the live model's answers on rehearsed samples; 0 for none.",
        *number(0, 100),
    ),
    "training.suspend_after_rounds": Rule(
        "Judged rounds in a row that left the model no better than the first one, after which no round "
        "starts by itself; 0 for never.",
        *integer(0, 10000),
    ),
    "promotion.min_gain": Rule(
        "mIoU, as a fraction of 1, that a candidate must gain over the live model.", *number(-1, 1)
    ),
    "promotion.max_class_drop": Rule(
        "IoU, as a fraction of 1, that a single class may lose, at once or over several promotions.",
        *number(0, 1),
    ),
    "promotion.confidence": Rule(
        "Confidence of the bounds that gains and falls are judged by, from draws of blocks of time.",
        *number(0.5, 0.999),
    ),
    "promotion.slim_tolerance": Rule(
        "By how much the lower bound of the gain may lie below min_gain where the candidate needs fewer "
        "MACs.",
        *number(0, 1),
    ),
    "promotion.max_condition_drop": Rule(
        "mIoU, as a fraction of 1, that a single condition may lose, at once or over several promotions.",
        *number(0, 1),
    ),
    "promotion.max_latency_ratio": Rule(
        "How many times as long as with the live model a mask may take.", *number(0.1, 1000)
    ),
    "promotion.probation_samples": Rule(
        "Frames stored after a promotion on which the new version must hold against the one before, or it is "
        "rolled back; 0 for no probation.",
        *integer(0, 512),
    ),
    "promotion.probation_drop": Rule(
        "mIoU, as a fraction of 1, that a version on probation may lose against the one before.",
        *number(0, 1),
    ),
    "inference.enabled": Rule(
        "Whether masks are predicted and published; without it torch stays out of the daemon.", *boolean()
    ),
    "inference.publish": Rule(
        "Endpoint of the PUB socket that sends masks.",
        f"an endpoint: {_BIND}",
        lambda value: is_endpoint(value, bind=True),
    ),
    "inference.engine": Rule(
        "What runs the model: auto is the one of onnxruntime (the extra onnx) and OpenVINO (the extra "
        "openvino) that takes the least CPU time on this board and agrees with the model; torch where "
        "neither does, for some 250 MB of memory. executorch is taken as auto, with a warning.",
        *one_of("auto", "torch", "onnxruntime", "openvino", "executorch"),
    ),
    "inference.device": Rule(
        "Where the model runs: auto is an NVIDIA GPU if the installed onnxruntime can use one (its package "
        "for CUDA, or Jetson's), else the CPU.",
        *one_of("auto", "cpu", "cuda"),
    ),
    "inference.threads": Rule(
        "CPU threads of a mask; 0, or more than there are, takes all cores, no more than a share of "
        "processor time allows. With fewer a mask takes longer, for somewhat less energy.",
        *integer(0, 1024),
    ),
    "inference.reuse": Rule(
        "Whether a camera that stands still gets the mask of its last segmented frame again, for five "
        "seconds at most, while no part of the picture changes by more than noise.",
        *boolean(),
    ),
    "conditions.enabled": Rule(
        "Whether each condition (day, dusk, rain) keeps its own normalisation statistics.", *boolean()
    ),
    "conditions.max": Rule(
        "Conditions that are kept at most; a further one replaces the least used of late.",
        *integer(1, 64),
    ),
    "conditions.min_frames": Rule(
        "Frames that must agree before a condition is opened; its statistics are estimated from as many.",
        *integer(4, 256),
    ),
    "conditions.probation_every": Rule(
        "New statistics serve one in so many frames of their condition until they are judged.",
        *integer(1, 1000),
    ),
    "energy.meter": Rule(
        "Where joules come from; auto takes the best source that is there.", *one_of(*METERS)
    ),
    "energy.budget_joules_per_day": Rule(
        "Joules that rounds may spend in a day; 0 lets none start.", *number(0, 1e12)
    ),
    "energy.idle_watts": Rule(
        "Power of the idle board, for the modelled meter; 0 takes a typical figure.", *number(0, 10000)
    ),
    "energy.max_watts": Rule(
        "Power of the board with every core busy, for the modelled meter; 0 takes a typical figure.",
        *number(0, 10000),
    ),
    "energy.battery_floor_percent": Rule("No round starts below this battery charge.", *number(0, 100)),
    "energy.max_temperature_c": Rule("No round starts above this temperature, in Celsius.", *number(0, 150)),
    "energy.sysfs_root": Rule("Where sysfs is mounted.", *absolute_path()),
    "energy.procfs_root": Rule("Where procfs is mounted.", *absolute_path()),
    "metrics.enabled": Rule("Whether Prometheus metrics are served over HTTP.", *boolean()),
    "metrics.listen": Rule(
        "Address of the metrics server.", "host:port (port 0 for any free one)", is_listen
    ),
    "control.endpoint": Rule(
        "Socket of commands such as pause and train-now.",
        'ipc:///absolute/path, or "" for one in the state folder',
        lambda value: not value or (value.startswith("ipc:///") and len(value) > 7 and "\0" not in value),
    ),
    "security.curve": Rule(
        "Whether ingest and masks are encrypted (CURVE) and known clients alone may connect.", *boolean()
    ),
    "security.keys_dir": Rule(
        "Folder that `keys generate` made.",
        'an existing folder, or "" for what systemd hands over',
        lambda value: "\0" not in value,
    ),
    "security.publishers": Rule(
        "With CURVE, the clients behind ingest.subscribe, in its order: each must hold the key of its name.",
        "a list of as many client names as ingest.subscribe has endpoints",
        lambda value: all(CLIENT_NAME.fullmatch(name) for name in value),
    ),
    "security.bind_camera_names": Rule(
        "With CURVE, whether a client may send for the camera of its own name alone.", *boolean()
    ),
    "security.allow_plain_remote": Rule(
        "Whether addresses that other machines can reach may be bound without encryption.", *boolean()
    ),
    "notify.url": Rule(
        "Where to post, as JSON, that frames want labels and what else a person must see to.",
        'an address such as "https://host/path", without user and password, or "" for nowhere',
        lambda value: not value or is_webhook(value),
        secret=True,
    ),
    "fleet.kit": Rule(
        "This board's kit, which makes it one of a fleet: `fleet init` made it, `fleet join` connects.",
        'a folder, or "" for none',
        lambda value: "\0" not in value,
    ),
    "fleet.max_own_drop": Rule(
        "mIoU that a version of the fleet may cost this board on its own held-out frames.", *number(0, 1)
    ),
}
