"""The configuration's values: one frozen struct per TOML section, named as in the file."""

from __future__ import annotations

from typing import Literal

import msgspec

from dance_ondevice.names import STREET_CLASSES


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """``[daemon]``."""

    state_dir: str = "/var/lib/dance-ondevice"


class Ingest(msgspec.Struct, frozen=True, kw_only=True):
    """``[ingest]``."""

    bind: tuple[str, ...] = ("tcp://127.0.0.1:5555",)
    subscribe: tuple[str, ...] = ()
    subscribe_bind: tuple[str, ...] = ()
    max_message_bytes: int = 33554432
    max_pixels: int = 33554432
    queue_frames: int = 64
    max_cameras: int = 64
    max_header_bytes: int = 65536
    max_frames_per_second: float = 0.0
    max_bytes_per_second: int = 0


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """``[storage]``."""

    quota_bytes: int = 2147483648
    min_free_bytes: int = 536870912


class Complexity(msgspec.Struct, frozen=True, kw_only=True):
    """``[complexity]``."""

    indicator: str = "detail_loss"


class DataSlimming(msgspec.Struct, frozen=True, kw_only=True):
    """``[data_slimming]``."""

    enabled: bool = True
    scales: tuple[float, ...] = (1.0, 0.75, 0.5)
    drop_fraction: float = 0.3
    choice: Literal["random", "complexity"] = "random"
    loss_weighting: bool = True
    warmup_frames: int = 16
    window_frames: int = 128
    screen: bool = True


#: What ``model.weights`` holds to start from a fresh network, whatever comes with the package.
UNTRAINED = "untrained"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """``[model]``; ``size`` is (width, height)."""

    architecture: str = "fastscnn"
    classes: tuple[str, ...] = STREET_CLASSES
    weights: str = ""
    factory: str = ""
    size: tuple[int, int] = (480, 360)

    @property
    def source(self) -> str:
        """The path of the model or of the weights to start from; empty where none is named."""
        return "" if self.weights == UNTRAINED else self.weights


class NetworkSlimming(msgspec.Struct, frozen=True, kw_only=True):
    """``[network_slimming]``."""

    enabled: bool | Literal["auto"] = "auto"
    target_macs_fraction: float = 0.5
    step: float = 0.1


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """``[labels]``."""

    teacher: str = ""
    teacher_factory: str = ""
    teacher_confidence: float = 0.9
    teacher_agreement: float = 0.9
    teacher_samples: int = 32
    budget_share: float = 0.25
    self_training: bool = False
    teacher_may_judge: bool = False


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """``[training]``; durations are read by ``parse_duration``."""

    interval: str = "30m"
    window: str = ""
    min_new_samples: int = 64
    min_new_samples_after_drift: int = 0
    max_round_duration: str = "20m"
    batch_size: int = 8
    max_samples: int = 256
    epochs: int = 4
    learning_rate: float = 0.001
    rehearsal_share: float = 0.5
    anchors: str = ""
    anchor_share: float = 0.25
    gate_share: float = 0.2
    gate_block: str = "5s"
    gate_max_samples: int = 64
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    priority: Literal["background", "normal"] = "background"
    seed: int = 0
    early_stopping: bool = True
    distillation: float = 0.0
    suspend_after_rounds: int = 8


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """``[promotion]``."""

    min_gain: float = 0.0
    max_class_drop: float = 0.05
    confidence: float = 0.9
    slim_tolerance: float = 0.02
    max_condition_drop: float = 0.02
    max_latency_ratio: float = 1.25
    probation_samples: int = 32
    probation_drop: float = 0.02


class Inference(msgspec.Struct, frozen=True, kw_only=True):
    """``[inference]``."""

    enabled: bool = True
    publish: str = "tcp://127.0.0.1:5556"
    engine: Literal["auto", "torch", "onnxruntime", "openvino", "executorch"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    reuse: bool = False

    @property
    def serves_by(self) -> Literal["auto", "torch", "onnxruntime", "openvino"]:
        """The engine to serve by: ExecuTorch's runtime would bring torch into the daemon, so it is none."""
        return "auto" if self.engine == "executorch" else self.engine


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """``[conditions]``."""

    enabled: bool = True
    max: int = 8
    min_frames: int = 16
    probation_every: int = 4


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """``[energy]``."""

    meter: str = "auto"
    budget_joules_per_day: float = 20000.0
    idle_watts: float = 0.0
    max_watts: float = 0.0
    battery_floor_percent: float = 30.0
    max_temperature_c: float = 80.0
    sysfs_root: str = "/sys"
    procfs_root: str = "/proc"


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """``[metrics]``."""

    enabled: bool = True
    listen: str = "127.0.0.1:9747"


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """``[control]``."""

    endpoint: str = ""


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """``[security]``."""

    curve: bool = False
    keys_dir: str = ""
    publishers: tuple[str, ...] = ()
    bind_camera_names: bool = False
    allow_plain_remote: bool = False


class Notify(msgspec.Struct, frozen=True, kw_only=True):
    """``[notify]``."""

    url: str = ""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """``[fleet]``."""

    kit: str = ""
    max_own_drop: float = 0.01


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration; attributes are named as in the file, ``section.key``."""

    daemon: Daemon = Daemon()
    ingest: Ingest = Ingest()
    storage: Storage = Storage()
    complexity: Complexity = Complexity()
    data_slimming: DataSlimming = DataSlimming()
    model: Model = Model()
    network_slimming: NetworkSlimming = NetworkSlimming()
    labels: Labels = Labels()
    training: Training = Training()
    promotion: Promotion = Promotion()
    inference: Inference = Inference()
    conditions: Conditions = Conditions()
    energy: Energy = Energy()
    metrics: Metrics = Metrics()
    control: Control = Control()
    security: Security = Security()
    notify: Notify = Notify()
    fleet: Fleet = Fleet()
