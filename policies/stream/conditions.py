"""Which condition a camera is in (day, dusk, rain, headlights), told from the figures of its stream.

A condition is a place in the space of those figures: a centre and a spread, learnt from its first frames and
fixed from then on, so that a dusk which comes slowly cannot pull the day along. Only frames that are clearly
its own count: those of a day that comes back must not make the dusk any lighter. The first one, ``base``, is
where the model feels at home. Confidence is not among the figures: it depends on the condition that is
chosen, and would take part in its own cause.

Which of several conditions a frame belongs to is asked by likelihood (quadratic discriminant analysis), in
spreads that were measured, drawn to the usual ones while frames are few (Friedman, "Regularized discriminant
analysis", JASA 1989). A lower limit at the usual alone would make every steady light look wider than it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

__all__ = [
    "BASE",
    "FIGURES",
    "CameraState",
    "Condition",
    "ConditionRules",
    "State",
    "Step",
    "founded",
    "log_likelihood",
    "observe",
    "without",
]

#: The condition that is always there.
BASE = "base"
#: What conditions are told apart by, and what each usually varies by within one.
FIGURES: Mapping[str, float] = {
    "luma": 0.04,
    "contrast": 0.025,
    "warmth": 0.015,
    "tint": 0.01,
    "complexity": 0.05,
}

#: The usual spread of a figure counts like so many frames, beside those that were seen...
_USUAL_FRAMES = 16
#: ...and no spread is taken for less than this share of it: frames of a video resemble their neighbours.
_LEAST_SHARE = 0.5

Vector = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionRules:
    """What it takes to open, choose and merge conditions. Distances are in spreads of a condition.

    Attributes:
        most: conditions at most, ``base`` included.
        min_frames: frames that must agree before a condition is opened.
        fit: a frame farther off than this is no frame of the condition. With five figures, one in thirty
            frames of the condition itself is.
        margin: a frame must be likelier in another condition by this much to speak for a switch, and in its
            own to be learnt from, as the logarithm of the ratio; for ``base`` it need only be likelier, since
            the model has learnt that one best.
        switch_frames: frames in a row that must speak for the same switch.
        settle_frames: frames that centre and spread are learnt from.
        settle_base_frames: the same for ``base``, which is as wide as what the model was made for.
        merge: conditions whose centres are this near are one.
        odd_share: share of the frames of a new condition that may disagree with the others.

    Raises:
        ValueError: a value is impossible; the text names it and what is allowed.
    """

    most: int = 8
    min_frames: int = 16
    fit: float = 3.5
    margin: float = 1.0
    switch_frames: int = 3
    settle_frames: int = 64
    settle_base_frames: int = 512
    merge: float = 2.0
    odd_share: float = 0.125

    def __post_init__(self) -> None:
        for name, least in (("most", 1), ("min_frames", 4), ("switch_frames", 2), ("settle_frames", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} or more")
        if not 0 < self.merge < self.fit:
            raise ValueError(f"merge is {self.merge} and fit {self.fit}; give 0 < merge < fit")


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """One condition.

    Attributes:
        name: ``base``, or ``c`` and a number that is never used again.
        parent: condition that served when this one was opened.
        frames: frames that centre and spread were learnt from.
        mean: centre, in the order of ``FIGURES``.
        squares: sums of squared deviations from the centre.
        uses: frames that it served.
    """

    name: str
    parent: str = BASE
    frames: int
    mean: Vector
    squares: Vector
    uses: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraState:
    """Where one camera stands.

    Attributes:
        current: name of the condition it is in.
        challenger: the condition that the last frames spoke for, "" for none.
        streak: how many frames in a row did.
        strange: latest frames that fitted no condition.
        alarmed: whether drift was noticed that no known condition has explained yet; a camera that is new is
            such news.
        calm: frames in a row that fitted a known condition.
    """

    current: str = BASE
    challenger: str = ""
    streak: int = 0
    strange: tuple[Vector, ...] = ()
    alarmed: bool = True
    calm: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """All conditions and cameras; `observe` returns the next one.

    Attributes:
        conditions: known ones, oldest first; ``base`` leads once there is any.
        cameras: by name.
        founder: the camera whose first frames tell what ``base`` looks like.
        opened: conditions opened so far, for their names.
    """

    conditions: tuple[Condition, ...] = ()
    cameras: Mapping[str, CameraState] = field(default_factory=dict)
    founder: str = ""
    opened: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one frame led to.

    Attributes:
        condition: the one that the camera is in now.
        switched: whether it was in another one before.
        strange: whether the frame fitted no known condition.
        opened: name of a condition that was opened.
        merged: (name that is gone, name that it goes by now).
        dropped: name of a condition that had to make room.
        settled: name of a condition whose centre and spread are fixed from now on.
    """

    condition: str
    switched: bool = False
    strange: bool = False
    opened: str = ""
    merged: tuple[str, str] | None = None
    dropped: str = ""
    settled: str = ""


def without(state: State, camera: str) -> State:
    """What is known when a camera is forgotten; the conditions that it opened stay."""
    return replace(state, cameras={name: each for name, each in state.cameras.items() if name != camera})


def observe(
    rules: ConditionRules, state: State, camera: str, figures: Mapping[str, float], *, drift: bool
) -> tuple[State, Step]:
    """Take in one frame of a camera and choose its condition.

    Args:
        rules: what it takes.
        state: before this frame.
        camera: its name.
        figures: at least those of ``FIGURES``.
        drift: whether the drift detector fires on this frame.

    Returns:
        The state after this frame, and what it led to.

    Raises:
        ValueError: a figure is missing or not finite.
    """
    vector = _vector(figures)
    known = state.cameras.get(camera, CameraState())
    known = replace(known, alarmed=known.alarmed or drift)
    if not state.conditions or (state.founder == camera and state.conditions[0].frames < rules.min_frames):
        return _found(state, camera, known, vector)
    state = replace(state, cameras={**state.cameras, camera: known})
    distances = {condition.name: distance(condition, vector) for condition in state.conditions}
    if min(distances.values()) > rules.fit:
        return _strange(rules, state, camera, vector)
    return _fitting(rules, state, camera, vector, distances)


def founded(frames: Iterable[Mapping[str, float]], camera: str) -> State:
    """A state in which ``base`` is known from a camera's frames of the model's own domain, however varied.

    Raises:
        ValueError: a figure of a frame is missing or not finite, see ``FIGURES``.
    """
    state = State()
    for figures in frames:
        state, _ = _found(state, camera, CameraState(), _vector(figures))
    return state


def distance(condition: Condition, vector: Vector) -> float:
    """How far a frame is from a condition: Euclidean, each figure in the condition's spread of it."""
    spreads = _spreads(condition)
    return math.sqrt(sum(((x - m) / s) ** 2 for x, m, s in zip(vector, condition.mean, spreads, strict=True)))


def log_likelihood(condition: Condition, vector: Vector) -> float:
    """How likely a frame is in a condition: the logarithm of a normal density, but for a constant.

    The wider the condition, the less likely is any one place in it: it does not swallow its neighbours.
    """
    volume = sum(math.log(s / u) for s, u in zip(_spreads(condition), FIGURES.values(), strict=True))
    return -(distance(condition, vector) ** 2) / 2 - volume


def _vector(figures: Mapping[str, float]) -> Vector:
    missing = [name for name in FIGURES if not math.isfinite(figures.get(name, math.nan))]
    if missing:
        raise ValueError(f"a frame needs finite figures for {', '.join(missing)}; found {dict(figures)}")
    return tuple(float(figures[name]) for name in FIGURES)


def _spreads(condition: Condition) -> Vector:
    """Root of the mean of the measured variance and the usual one, each weighted by its frames."""
    weight = condition.frames + _USUAL_FRAMES
    return tuple(
        max(_LEAST_SHARE * usual, math.sqrt((square + _USUAL_FRAMES * usual**2) / weight))
        for usual, square in zip(FIGURES.values(), condition.squares, strict=True)
    )


def _found(state: State, camera: str, known: CameraState, vector: Vector) -> tuple[State, Step]:
    """The first frames of all: they say what the model's own condition looks like."""
    first = state.conditions[0] if state.conditions else _empty(BASE, BASE)
    base = _used(_learnt(first, vector))
    cameras = {**state.cameras, camera: replace(known, alarmed=False)}
    found = replace(
        state, conditions=(base, *state.conditions[1:]), cameras=cameras, founder=state.founder or camera
    )
    return found, Step(condition=BASE)


def _fitting(
    rules: ConditionRules, state: State, camera: str, vector: Vector, distances: Mapping[str, float]
) -> tuple[State, Step]:
    known = state.cameras[camera]
    likely = {c.name: log_likelihood(c, vector) for c in state.conditions if distances[c.name] <= rules.fit}
    likeliest = max(likely, key=lambda name: likely[name])
    speaks = likeliest != known.current and _clearly(rules, likeliest, likely, [known.current])
    streak = 0 if not speaks else known.streak + 1 if known.challenger == likeliest else 1
    switched = streak >= rules.switch_frames
    calm = known.calm + 1
    current = likeliest if switched else known.current
    after = CameraState(
        current=current,
        challenger="" if switched or not speaks else likeliest,
        streak=0 if switched else streak,
        # One frame that fits takes two back: a passing lorry never adds up to a condition.
        strange=known.strange[2:],
        alarmed=known.alarmed and calm < rules.min_frames,
        calm=calm,
    )
    own = current == likeliest and _clearly(rules, current, likely, likely)
    conditions, settled = [], ""
    for condition in state.conditions:
        found = condition
        if condition.name == current:
            found = _used(condition)
            enough = rules.settle_base_frames if current == BASE else rules.settle_frames
            if own and condition.frames < enough:
                found = _learnt(found, vector)
                settled = current if found.frames == enough else ""
        conditions.append(found)
    state = replace(state, conditions=tuple(conditions), cameras={**state.cameras, camera: after})
    state, merged = _merged(rules, state)
    step = Step(condition=state.cameras[camera].current, switched=switched, merged=merged, settled=settled)
    return state, step


def _clearly(rules: ConditionRules, name: str, likely: Mapping[str, float], others: Iterable[str]) -> bool:
    """Whether a frame is likelier in a condition than in those others that it fits, by the margin."""
    margin = 0.0 if name == BASE else rules.margin
    return all(likely[name] > likely[other] + margin for other in others if other in likely and other != name)


def _strange(rules: ConditionRules, state: State, camera: str, vector: Vector) -> tuple[State, Step]:
    known = state.cameras[camera]
    strange = (*known.strange, vector)[-rules.min_frames :]
    after = replace(known, strange=strange, calm=0)
    conditions = tuple(_used(c) if c.name == known.current else c for c in state.conditions)
    state = replace(state, conditions=conditions, cameras={**state.cameras, camera: after})
    waiting = Step(condition=known.current, strange=True)
    if not known.alarmed or len(strange) < rules.min_frames:
        return state, waiting
    agreeing = _agreeing(rules, strange)
    if len(agreeing) < (1 - rules.odd_share) * len(strange):
        return state, waiting
    room = _with_room(rules, state)
    if room is None:
        return state, waiting
    state, dropped = room
    name = f"c{state.opened + 1}"
    condition = _empty(name, state.cameras[camera].current)
    for vector_of_it in agreeing:
        condition = _learnt(condition, vector_of_it)
    state = replace(
        state,
        conditions=(*state.conditions, condition),
        cameras={**state.cameras, camera: CameraState(current=name, alarmed=False)},
        opened=state.opened + 1,
    )
    return state, Step(condition=name, switched=True, strange=True, opened=name, dropped=dropped)


def _agreeing(rules: ConditionRules, vectors: Sequence[Vector]) -> list[Vector]:
    """Those that lie around the median of all, a centre that a few odd ones do not move."""
    median = tuple(sorted(column)[len(vectors) // 2] for column in zip(*vectors, strict=True))
    centre = Condition(name="", frames=1, mean=median, squares=tuple(0.0 for _ in median))
    return [vector for vector in vectors if distance(centre, vector) <= rules.fit]


def _with_room(rules: ConditionRules, state: State) -> tuple[State, str] | None:
    """The state with room for one more, and who had to go; None while every other one is in use."""
    if len(state.conditions) < rules.most:
        return state, ""
    in_use = {camera.current for camera in state.cameras.values()} | {BASE}
    free = [condition for condition in state.conditions if condition.name not in in_use]
    if not free:
        return None
    least = min(free, key=lambda condition: condition.uses).name
    cameras = {
        name: replace(camera, challenger="", streak=0) if camera.challenger == least else camera
        for name, camera in state.cameras.items()
    }
    conditions = tuple(condition for condition in state.conditions if condition.name != least)
    return replace(state, conditions=conditions, cameras=cameras), least


def _merged(rules: ConditionRules, state: State) -> tuple[State, tuple[str, str] | None]:
    """Make one of the first two conditions that agree; the older one's name stays."""
    for index, older in enumerate(state.conditions):
        for younger in state.conditions[index + 1 :]:
            # Near by both their measures: a wide condition must not swallow a narrow one.
            if max(distance(older, younger.mean), distance(younger, older.mean)) > rules.merge:
                continue
            one = replace(older, uses=older.uses + younger.uses)
            conditions = tuple(one if c is older else c for c in state.conditions if c is not younger)
            cameras = {
                name: _renamed(camera, younger.name, older.name) for name, camera in state.cameras.items()
            }
            return replace(state, conditions=conditions, cameras=cameras), (younger.name, older.name)
    return state, None


def _renamed(camera: CameraState, gone: str, kept: str) -> CameraState:
    current = kept if camera.current == gone else camera.current
    challenged = camera.challenger in (gone, kept)
    return replace(
        camera,
        current=current,
        challenger="" if challenged else camera.challenger,
        streak=0 if challenged else camera.streak,
    )


def _empty(name: str, parent: str) -> Condition:
    nothing = tuple(0.0 for _ in FIGURES)
    return Condition(name=name, parent=parent, frames=0, mean=nothing, squares=nothing)


def _used(condition: Condition) -> Condition:
    return replace(condition, uses=condition.uses + 1)


def _learnt(condition: Condition, vector: Vector) -> Condition:
    """Welford's update of centre and spread."""
    frames = condition.frames + 1
    offs = [x - m for x, m in zip(vector, condition.mean, strict=True)]
    mean = tuple(m + off / frames for m, off in zip(condition.mean, offs, strict=True))
    squares = tuple(
        s + off * (x - m) for s, off, x, m in zip(condition.squares, offs, vector, mean, strict=True)
    )
    return replace(condition, frames=frames, mean=mean, squares=squares)
