from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.fastscnn import FastSCNN
from dance_ondevice.models.forward import heads_of, logits, outputs, predict, sampled_outputs, to_tensor

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Picky(nn.Module):
    """Refuses what a strided encoder could not take, and answers at a quarter of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert x.shape[2] % 32 == 0
        assert x.shape[3] % 32 == 0
        self.seen = x
        return x[..., ::4, ::4] * self.scale, x


class Fixed(nn.Module):
    """Answers what it was given, whatever the image."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.answer = answer

    def forward(self, x: torch.Tensor) -> object:
        return self.answer


def painter(*scores: float) -> nn.Module:
    """A model whose score for each class is the red channel times a factor."""
    model = nn.Conv2d(3, len(scores), 1, bias=False).eval()
    with torch.no_grad():
        model.weight.zero_()
        model.weight[:, 0, 0, 0] = torch.tensor(scores)
    return model


@settings(max_examples=30)
@given(height=st.integers(1, 70), width=st.integers(1, 70), batch=st.integers(1, 2))
def test_any_size_is_padded_and_cut_back(height: int, width: int, batch: int):
    model = Picky()
    x = torch.rand(batch, 3, height, width)
    first, second = outputs(model, x)
    assert first.shape == second.shape == x.shape
    assert torch.equal(second, x)
    assert model.seen is not None
    assert torch.equal(model.seen[..., -1, -1], x[..., -1, -1])
    assert torch.equal(logits(model, x), first)


def test_a_fitting_input_is_passed_on_as_it_is():
    model = Picky()
    x = torch.rand(1, 3, 64, 32)
    logits(model, x)
    assert model.seen is x


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 13), (33, 64)])
def test_fastscnn_takes_any_size(height: int, width: int):
    model = FastSCNN(4, downsample=(8, 8, 8), bottlenecks=(8, 8, 8), repeats=(1, 1, 1), fusion=8).eval()
    assert logits(model, torch.rand(1, 3, height, width)).shape == (1, 4, height, width)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 0, 8), (0, 3, 8, 8)])
def test_what_is_no_batch_of_images_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="batch of images"):
        logits(Picky(), torch.zeros(shape))


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ({"seg": torch.zeros(1, 2, 32, 32)}, "a dict"),
        ((), "a tuple of nothing"),
        (torch.zeros(1, 2), r"\(1, 2\)"),
    ],
)
def test_a_model_that_answers_something_else_is_told_so(answer: object, named: str):
    with pytest.raises(TypeError, match=named):
        logits(Fixed(answer), torch.zeros(1, 3, 32, 32))


def test_to_tensor_turns_bgr_into_normalised_rgb():
    bgr = np.array([[[0, 51, 255], [255, 0, 0]]], np.uint8)
    found = to_tensor(bgr, Normalisation((0.5, 0.2, 0.0), (0.5, 1.0, 0.1)))
    assert found.shape == (1, 3, 1, 2)
    assert found.dtype == torch.float32
    assert found[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-5)
    assert found[0, :, 0, 1].tolist() == pytest.approx([-1.0, -0.2, 10.0], abs=1e-5)


def test_to_tensor_takes_read_only_and_sliced_images():
    data = np.frombuffer(bytes(range(48)), np.uint8).reshape(4, 4, 3)
    assert torch.equal(to_tensor(data[::2, ::-1], PLAIN), to_tensor(data[::2, ::-1].copy(), PLAIN))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 0, 3), np.uint8)],
)
def test_to_tensor_refuses_other_arrays(wrong: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        to_tensor(wrong, PLAIN)


def test_predict_gives_the_best_class_and_its_probability():
    bgr = np.zeros((8, 12, 3), np.uint8)
    bgr[:, 3:, 2] = 255
    found = predict(painter(0.0, 2.0, 1.0), bgr, PLAIN)
    assert found.mask.shape == (8, 12)
    assert found.mask.dtype == np.uint8
    assert (found.mask[:, 3:] == 1).all()
    sure = float(torch.tensor([0.0, 2.0, 1.0]).softmax(0)[1])
    # Of columns 0, 4 and 8.
    assert found.mean_confidence == pytest.approx((1 / 3 + 2 * sure) / 3, abs=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (49, 70)])
@pytest.mark.parametrize("out_size", [(64, 96), (128, 192), (20, 31)])
def test_predict_is_torchs_interpolation_of_the_logits(size: tuple[int, int], out_size: tuple[int, int]):
    model = FastSCNN(7, downsample=(8, 8, 8), bottlenecks=(8, 8, 8), repeats=(1, 1, 1), fusion=8).eval()
    bgr = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    with torch.inference_mode():
        at_size = logits(model, to_tensor(bgr, PLAIN))
        scores = F.interpolate(at_size, out_size, mode="bilinear", align_corners=False)
    found = predict(model, bgr, PLAIN, out_size=out_size)
    # One interpolation instead of two: they differ at edges between classes alone.
    assert (found.mask == scores.argmax(1)[0].numpy()).mean() > (0.999 if size == out_size else 0.95)
    assert found.mean_confidence == pytest.approx(float(scores.softmax(1).amax(1).mean()), abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (33, 50), (480, 360)])
def test_predict_answers_at_the_size_asked_for(size: tuple[int, int]):
    found = predict(painter(0.0, 1.0), np.full((24, 31, 3), 200, np.uint8), PLAIN, out_size=size)
    assert found.mask.shape == size
    assert (found.mask == 1).all()


def test_predict_upsamples_scores_rather_than_labels():
    # Class 2 lies between 0 and 1 in score: labels upsampled bilinearly or by neighbour could not show it.
    bgr = np.zeros((1, 2, 3), np.uint8)
    bgr[0, 1, 2] = 255
    model = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[:, 0, 0, 0] = torch.tensor([-1.0, 1.0, 0.0])
        model.bias.copy_(torch.tensor([0.5, -0.5, 0.2]))
    assert sorted(set(predict(model.eval(), bgr, PLAIN).mask.flatten().tolist())) == [0, 1]
    assert 2 in predict(model.eval(), bgr, PLAIN, out_size=(1, 40)).mask


def test_predict_refuses_a_model_in_training_mode():
    with pytest.raises(ValueError, match="eval"):
        predict(painter(1.0).train(), np.zeros((4, 4, 3), np.uint8), PLAIN)


def test_predict_refuses_an_impossible_size():
    with pytest.raises(ValueError, match="out_size"):
        predict(painter(1.0), np.zeros((4, 4, 3), np.uint8), PLAIN, out_size=(0, 4))


class Coarse(nn.Module):
    """Logits at an eighth of the size, and again at the full one."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(3, 4, 8, stride=8)
        self.fine = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.coarse(x), self.fine(x)


def test_a_layer_is_not_taken_for_the_logits_before_a_model_enlarges_them() -> None:
    class Named(Coarse):
        def __init__(self) -> None:
            super().__init__()
            self.coarse_logits = nn.Conv2d(3, 9, 1)

    model, seen = Named().eval(), []
    predict(model, np.zeros((32, 64, 3), np.uint8), PLAIN, by=lambda scores, *_: seen.append(scores.shape))
    assert seen == [(4, 4, 8)]


@pytest.mark.parametrize("offset", [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize("size", [(64, 96), (45, 61), (1, 2)])
def test_sampled_outputs_stand_for_every_second_pixel(size: tuple[int, int], offset: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model, x = Coarse(), torch.rand(2, 3, *size)
    offset = (min(offset[0], size[0] - 1), min(offset[1], size[1] - 1))
    model.requires_grad_(False)
    coarse, fine = sampled_outputs(model, x, 2, offset)
    whole = [head[..., offset[0] :: 2, offset[1] :: 2] for head in outputs(model, x)]
    assert coarse.shape == fine.shape == whole[0].shape
    assert torch.equal(fine, whole[1]), "no pixel is smoothed away where the model has all of them"
    # Half a pixel beside, along both sides, of what changes by so much from one of these pixels to the next.
    steps = [float(whole[0].diff(dim=dim).abs().max()) for dim in (2, 3) if whole[0].shape[dim] > 1]
    assert float((coarse - whole[0]).abs().max()) <= 0.5 * sum(steps) + (1e-5 if len(steps) == 2 else 1.0)
    assert torch.equal(sampled_outputs(model, x, 1, (0, 0))[0], outputs(model, x)[0])


@pytest.mark.parametrize("name", ["out", "logits"], ids=["torchvision", "hugging face"])
def test_a_dict_of_outputs_is_taken(name: str) -> None:
    real, aux = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 4, 4)

    found = outputs(Fixed({"aux": aux, name: real}), torch.zeros(1, 3, 64, 64))

    assert [tuple(head.shape) for head in found] == [(1, 3, 64, 64)] * 2
    assert torch.equal(found[0], logits(Fixed(real), torch.zeros(1, 3, 64, 64)))


@pytest.mark.parametrize("answer", [{"scores": torch.zeros(1, 3, 8, 8)}, {"out": 5}, {}])
def test_another_dict_is_refused_and_described(answer: object) -> None:
    with pytest.raises(TypeError, match=r'a dict with them as "out" or "logits"; it returned a dict of'):
        outputs(Fixed(answer), torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_segments_frames(dtype: torch.dtype) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (33, 50, 3), np.uint8)
    model = FastSCNN(3).eval()
    expected = predict(model, picture, PLAIN)
    found = predict(model.to(dtype), picture, PLAIN)
    assert found.mean_confidence == pytest.approx(expected.mean_confidence, abs=0.01)


def test_a_model_without_parameters_segments_frames() -> None:
    picture = np.full((32, 32, 3), (0, 0, 255), np.uint8)
    assert (predict(nn.Identity().eval(), picture, PLAIN).mask == 0).all()  # red comes first


def test_further_maps_that_are_no_scores_of_the_classes_are_left_out() -> None:
    scores, boundary, auxiliary = torch.zeros(1, 5, 8, 8), torch.zeros(1, 1, 8, 8), torch.ones(1, 5, 4, 4)
    for found in (
        (scores, None, boundary, auxiliary),
        {"boundary": boundary, "out": scores, "features": None, "aux": auxiliary},
    ):
        first, second = heads_of(found)
        assert first is scores
        assert second is auxiliary
    assert not heads_of((None, scores))
    assert not heads_of({"aux": scores})
