from __future__ import annotations

import pytest
import torch

from services.inference.token_choice import MOST_UNIFORM, Choice, all_finite, draw, next_token_distribution

LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


def _chosen(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> list[float]:
    distribution = next_token_distribution(LOGITS, Choice(temperature, top_k, top_p))
    return [round(float(probability), 4) for probability in distribution[0]]


def test_without_filters_the_distribution_is_the_softmax() -> None:
    assert _chosen() == [0.5, 0.3, 0.15, 0.05]


def test_temperature_sharpens() -> None:
    assert _chosen(temperature=0.5) == [0.6849, 0.2466, 0.0616, 0.0068]


def test_top_p_keeps_the_token_that_crosses() -> None:
    assert _chosen(top_p=0.6) == [0.625, 0.375, 0.0, 0.0]


def test_top_p_below_the_best_token_keeps_the_best_one() -> None:
    assert _chosen(top_p=0.01) == [1.0, 0.0, 0.0, 0.0]


def test_top_p_counts_after_the_temperature() -> None:
    assert _chosen(temperature=0.5, top_p=0.65) == [1.0, 0.0, 0.0, 0.0]


def test_top_k_wins_over_top_p() -> None:
    assert _chosen(top_k=3, top_p=0.01) == [0.5263, 0.3158, 0.1579, 0.0]


def test_top_k_beyond_the_vocabulary_keeps_all() -> None:
    assert _chosen(top_k=1000) == [0.5, 0.3, 0.15, 0.05]


def test_an_order_other_than_descending_keeps_the_right_tokens() -> None:
    shuffled = next_token_distribution(LOGITS[:, [3, 1, 0, 2]], Choice(1.0, 0, 0.6))
    assert [round(float(p), 4) for p in shuffled[0]] == [0.0, 0.375, 0.625, 0.0]


def test_extreme_logits_and_temperatures_stay_finite() -> None:
    for logits in (torch.tensor([[1e30, -1e30, 0.0]]), torch.full((1, 3), -1e30)):
        distribution = next_token_distribution(logits, Choice(1e-3, 0, 0.9))
        assert torch.isfinite(distribution).all()
        assert float(distribution.sum()) == pytest.approx(1.0)


def test_a_draw_inverts_the_cumulative_distribution() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)
    uniforms = torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81, 0.96], dtype=torch.float64)
    assert draw(probabilities.expand(6, -1), uniforms).tolist() == [0, 0, 1, 1, 2, 3]


def test_each_row_draws_from_its_own_distribution() -> None:
    probabilities = torch.eye(4)
    assert draw(probabilities, torch.rand(4, dtype=torch.float64)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("uniform", [0.0, 0.5, MOST_UNIFORM])
def test_a_token_of_probability_zero_is_never_drawn(uniform: float) -> None:
    for total in (1.0, 1.0 - 1e-7, 1.0 + 1e-7):
        probabilities = torch.tensor([[0.0, 0.5 * total, 0.0, 0.5 * total, 0.0]])
        assert draw(probabilities, torch.tensor([uniform], dtype=torch.float64)).item() in (1, 3)


def test_draws_follow_the_distribution() -> None:
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = draw(LOGITS.exp().expand(len(uniforms), -1), uniforms)
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.01, rtol=0)


def test_logits_that_are_not_numbers_are_noticed() -> None:
    numbers = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert bool(all_finite(next_token_distribution(numbers, Choice(1.0, 0, 1.0))))
    for choice in (Choice(1.0, 0, 1.0), Choice(1.0, 0, 0.9), Choice(1.0, 1, 1.0)):
        for place in ((0, 0), (0, 1), (1, 1)):
            broken = numbers.clone()
            broken[place] = float("nan")
            distribution = next_token_distribution(broken, choice)
            assert not bool(all_finite(distribution))
            assert draw(distribution, torch.tensor([0.5, 0.5], dtype=torch.float64)).max() <= 1


def test_tokens_as_likely_as_the_last_that_is_kept_are_kept_as_well() -> None:
    logits = torch.tensor([[0.4, 0.2, 0.2, 0.2]]).log()
    for choice in (Choice(1.0, 0, 0.5), Choice(1.0, 2, 1.0)):
        assert (next_token_distribution(logits, choice) > 0).all()
