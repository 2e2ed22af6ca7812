"""Backends train models, sample from them and score texts. They import neither Prefect nor the store."""

from tasks.backends.protocols import Sampler as Sampler
from tasks.backends.protocols import Scorer as Scorer
from tasks.backends.protocols import Trainer as Trainer
from tasks.backends.settings.resources import Resources as Resources
from tasks.backends.settings.sampling import SELF_TEACHER as SELF_TEACHER
from tasks.backends.settings.sampling import Sampling as Sampling
from tasks.backends.settings.training import GaussianMixtureTraining as GaussianMixtureTraining
from tasks.backends.settings.training import NgramTraining as NgramTraining
from tasks.backends.settings.training import PointTraining as PointTraining
from tasks.backends.settings.training import ToyTraining as ToyTraining
from tasks.backends.settings.training import Training as Training
from tasks.backends.settings.training import TransformerTraining as TransformerTraining
from tasks.backends.settings.training import VaeTraining as VaeTraining
from tasks.backends.types import Completion as Completion
from tasks.backends.types import LogPoint as LogPoint
from tasks.backends.types import PreferencePair as PreferencePair
from tasks.backends.types import Progress as Progress
from tasks.backends.types import Prompt as Prompt
from tasks.backends.types import Score as Score
from tasks.backends.types import Text as Text
from tasks.backends.types import TrainingCorpus as TrainingCorpus
from tasks.backends.types import TrainingResult as TrainingResult
from tasks.backends.types import TrainJob as TrainJob
