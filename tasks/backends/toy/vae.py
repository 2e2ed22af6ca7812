"""A variational autoencoder of points, for example of small images.

Kingma & Welling 2014, "Auto-encoding variational Bayes", arXiv:1312.6114. The output noise has a trained variance for
each dimension, and is sampled too, so that samples have the spread of the data. The temperature multiplies the
variances of latent and noise. Likelihoods are the importance-weighted bound of Burda et al. 2016 (arXiv:1509.00519).
"""

import math
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.settings.training import VaeTraining
from tasks.backends.toy.points import (
    BATCH,
    Points,
    infer_decimals,
    nll_from_density,
    points_of,
    require_model,
    to_completions,
    training_points,
)
from tasks.backends.types import Completion, LogPoint, Progress, Prompt, Score, Text, TrainingResult, TrainJob

_FILE = "vae.safetensors"
_DRAWS = 64
"""Number of latent samples for a likelihood."""
_LOG_INTERVAL = 200
"""Steps between two points of the log."""


def train(job: TrainJob[VaeTraining], progress: Progress) -> TrainingResult:
    """Train from scratch.

    Raises:
        HeirloomError: the corpus is empty, or a text is not a point.
    """
    settings, corpus = job.settings, job.corpus
    started = time.monotonic()
    points, human = training_points(corpus)
    decimals = _load(job.gen0_model).decimals if job.gen0_model else infer_decimals([*corpus.human, *corpus.synthetic])
    torch.manual_seed(job.seed % 2**63)
    network = _Vae(points.shape[1], settings.hidden_size, settings.latent_size, decimals)
    network.fit_scale(torch.tensor(points, dtype=torch.float32))
    log = _minimize_loss(network, torch.tensor(points, dtype=torch.float32), settings, progress)
    save_file(network.state_dict(), job.folder / _FILE, {"decimals": str(decimals)})
    seen = settings.max_steps * settings.batch_size * points.shape[1]
    return TrainingResult(seen, seen * human // len(points), settings.max_steps, time.monotonic() - started, log)


def sample(
    settings: Sampling,
    resources: Resources,  # noqa: ARG001  (signature of all samplers)
    model: Path,
    prompts: Sequence[Prompt],
    progress: Progress,
) -> Iterator[list[Completion]]:
    """Sample a point for each prompt from its own seed."""
    network = _load(model)

    def draw_points(batch: Sequence[Prompt]) -> Points:
        size = network.latent + network.size
        noise = [np.random.default_rng(prompt.seed).standard_normal(size) for prompt in batch]
        return network.sample_points(np.array(noise), settings.temperature)

    def nll(points: Points) -> Points:
        return network.nll(points, (1.0,))[:, 0]

    return to_completions(prompts, draw_points, nll, network.decimals, progress)


def score(model: Path, texts: Sequence[Text], temperatures: Sequence[float], progress: Progress) -> list[Score]:
    """Return a bound of the negative log-likelihood of each point at each temperature. Its tokens are its numbers."""
    network, scores = _load(model), list[Score]()
    for start in range(0, len(texts), BATCH):
        nats = network.nll(points_of(texts[start : start + BATCH]), temperatures)
        scores += [Score(network.size, tuple(row)) for row in nats.tolist()]
        progress(len(scores), len(texts))
    return scores


class _Vae(nn.Module):
    def __init__(self, size: int, hidden: int, latent: int, decimals: int) -> None:
        super().__init__()
        self.size, self.latent, self.decimals = size, latent, decimals
        self.encoder = nn.Sequential(nn.Linear(size, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, size))
        self.noise = nn.Parameter(torch.full((size,), -1.0))
        # The British spelling is a name in the files of stored models.
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(()))

    def fit_scale(self, points: Tensor) -> None:
        """Set the center and the scale by which inputs are standardized."""
        self.centre.copy_(points.mean(0))
        # If all points are equal, the scale is that of the last decimal.
        self.scale.copy_((points - self.centre).square().mean().sqrt().clamp_min(0.1**self.decimals))

    def variance(self) -> Tensor:
        """Return the variance of the noise, shape (size,), standardized, and at least the rounding error."""
        return self.noise.exp() + 0.01**self.decimals / 12 / self.scale.square()

    def loss(self, points: Tensor) -> Tensor:
        """Return the mean negative evidence lower bound of standardized points, in nats."""
        mean, log_variance = self.encoder(points).chunk(2, 1)
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        variance = self.variance()
        reconstruction = (points - self.decoder(latent)).square() / variance + variance.log() + math.log(2 * math.pi)
        divergence = mean.square() + log_variance.exp() - log_variance - 1
        return (reconstruction.sum(1) + divergence.sum(1)).mean() / 2

    @torch.inference_mode()
    def sample_points(self, noise: Points, temperature: float) -> Points:
        """Decode standard normal noise of shape (points, latent + size) into points."""
        drawn = torch.tensor(noise, dtype=torch.float32) * math.sqrt(temperature)
        standardized = self.decoder(drawn[:, : self.latent]) + drawn[:, self.latent :] * self.variance().sqrt()
        return (standardized * self.scale + self.centre).double().numpy()

    @torch.inference_mode()
    def nll(self, points: Points, temperatures: Sequence[float]) -> Points:
        """Return negative log-likelihoods, shape (points, temperatures). Each call uses the same latent noise."""
        standardized = (torch.tensor(points, dtype=torch.float32) - self.centre) / self.scale
        mean, log_variance = self.encoder(standardized).chunk(2, 1)
        drawn = torch.randn(_DRAWS, 1, self.latent, generator=torch.Generator().manual_seed(0))
        latent = mean + drawn * (log_variance / 2).exp()
        squared_distance = (standardized - self.decoder(latent)).square() / self.variance()
        log_proposal = _normal(drawn.square(), 1.0) - log_variance.sum(1) / 2
        log_densities = []
        for temperature in temperatures:
            log_likelihood = _normal(squared_distance, temperature) - self.variance().log().sum() / 2
            weights = log_likelihood + _normal(latent.square(), temperature) - log_proposal
            log_densities.append(weights.logsumexp(0) - math.log(_DRAWS) - self.size * self.scale.log())
        return nll_from_density(torch.stack(log_densities, 1).double().numpy(), self.size, self.decimals)


def _normal(squares: Tensor, variance: float) -> Tensor:
    """Return the log density of a centered normal distribution from squared distances, summed over the last axis."""
    return -(squares / variance + math.log(2 * math.pi * variance)).sum(-1) / 2


def _minimize_loss(network: _Vae, points: Tensor, settings: VaeTraining, progress: Progress) -> tuple[LogPoint, ...]:
    """Minimize the loss with AdamW and a linear learning rate schedule, and return the log."""
    standardized = (points - network.centre) / network.scale
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, settings.max_steps)
    log, started = list[LogPoint](), time.monotonic()
    for step in range(1, settings.max_steps + 1):
        optimizer.zero_grad()
        loss = network.loss(standardized[torch.randint(len(standardized), (settings.batch_size,))])
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % _LOG_INTERVAL == 0 or step == settings.max_steps:
            speed = step * settings.batch_size * network.size / (time.monotonic() - started)
            log.append(LogPoint(step, loss.item() / network.size, scheduler.get_last_lr()[0], speed))
            progress(step, settings.max_steps)
    return tuple(log)


@lru_cache(maxsize=4)
def _load(model: Path) -> _Vae:
    with safe_open(require_model(model, _FILE), "pt") as stored:
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (no mapping)
        decimals = int(stored.metadata()["decimals"])
    hidden, size = weights["encoder.0.weight"].shape
    network = _Vae(size, hidden, weights["decoder.0.weight"].shape[1], decimals)
    network.load_state_dict(weights)
    return network.eval()
