"""``poptorch.ctc_beam_search_decoder``: the most probable label sequences of a CTC model.

Prefix beam search in log space: a prefix's probability is kept apart by whether its last frame was blank, because
only then does the same label again begin a new one (Graves et al. 2006; Hannun et al. 2014, algorithm 1).
"""

import math
from typing import Any, Dict, List, Tuple

import torch
from torch.overrides import handle_torch_function, has_torch_function

from .._impl import createPoptorchError

__all__ = ["ctc_beam_search_decoder"]

Prefix = Tuple[int, ...]
_IMPOSSIBLE = -math.inf


def ctc_beam_search_decoder(
    probs: torch.Tensor, lengths: torch.Tensor, blank: int = 0, beam_width: int = 100, top_paths: int = 1
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decode log-probabilities of frames into label sequences.

    Args:
        probs: log-probabilities, ``[T, N, C]``.
        lengths: frames of each sample that count, ``[N]`` integers.
        blank: index of the blank class.
        beam_width: prefixes kept after each frame.
        top_paths: K, number of sequences returned for each sample.

    Returns:
        Log-probabilities of the sequences, ``[N, K]``; their lengths, ``[N, K]`` int32; and the sequences,
        ``[N, K, T]`` int32, filled with ``blank`` behind their end.

    Raises:
        poptorch.Error: ``probs`` or ``lengths`` is no tensor.
    """
    for name, value in (("probs", probs), ("lengths", lengths)):
        if not isinstance(value, torch.Tensor):
            raise createPoptorchError(
                f"ctc_beam_search_decoder: {name} must be a torch.Tensor, got {type(value).__name__}"
            )
    if has_torch_function((probs, lengths)):
        return handle_torch_function(
            ctc_beam_search_decoder, (probs, lengths), probs, lengths, blank, beam_width, top_paths
        )
    frames, batch, _ = probs.shape
    scores = torch.full((batch, top_paths), _IMPOSSIBLE)
    sizes = torch.zeros(batch, top_paths, dtype=torch.int32)
    paths = torch.full((batch, top_paths, frames), blank, dtype=torch.int32)
    table = probs.detach().float().cpu()
    for sample, length in enumerate(lengths.tolist()):
        beam = decode(table[: int(length), sample].tolist(), blank, beam_width)
        for rank, (prefix, score) in enumerate(beam[:top_paths]):
            scores[sample, rank] = score
            sizes[sample, rank] = len(prefix)
            paths[sample, rank, : len(prefix)] = torch.tensor(prefix, dtype=torch.int32)
    return scores.to(probs.device), sizes.to(probs.device), paths.to(probs.device)


def decode(frames: List[List[float]], blank: int, beam_width: int) -> List[Tuple[Prefix, float]]:
    """The beam after all frames, best first, with the log-probability of each prefix."""
    beam: Dict[Prefix, List[float]] = {(): [0.0, _IMPOSSIBLE]}  # [ends in blank, ends in its last label]
    for frame in frames:
        following: Dict[Prefix, List[float]] = {}
        for prefix, (in_blank, in_label) in beam.items():
            total = _add(in_blank, in_label)
            for label, score in enumerate(frame):
                if label == blank:
                    _collect(following, prefix, 0, total + score)
                elif prefix and prefix[-1] == label:
                    _collect(following, prefix, 1, in_label + score)
                    _collect(following, prefix + (label,), 1, in_blank + score)
                else:
                    _collect(following, prefix + (label,), 1, total + score)
        beam = dict(sorted(following.items(), key=_score, reverse=True)[:beam_width])
    return [(prefix, _add(*scores)) for prefix, scores in sorted(beam.items(), key=_score, reverse=True)]


def _score(item: Any) -> float:
    return _add(*item[1])


def _collect(beam: Dict[Prefix, List[float]], prefix: Prefix, end: int, score: float) -> None:
    scores = beam.setdefault(prefix, [_IMPOSSIBLE, _IMPOSSIBLE])
    scores[end] = _add(scores[end], score)


def _add(a: float, b: float) -> float:
    """``log(exp(a) + exp(b))``."""
    if a < b:
        a, b = b, a
    return a if b == _IMPOSSIBLE else a + math.log1p(math.exp(b - a))
