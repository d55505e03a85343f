"""The contract of a lab: ``lab.toml``, and what is inferred where there is none."""

from nightlab.core.config.limits import DEVICES, BudgetConfig
from nightlab.core.config.load import (
    CONTRACT,
    STRATEGY,
    amended,
    detect,
    from_files,
    load_contract,
    parse,
    problem_in,
    to_toml,
)
from nightlab.core.config.proposers import (
    RESERVED,
    AgentConfig,
    CommandConfig,
    ControllerConfig,
    CrossoverConfig,
    ModelConfig,
    PatchesConfig,
    PluginProposerConfig,
    ProgramConfig,
    TunerConfig,
)
from nightlab.core.config.schema import (
    CommonsConfig,
    Event,
    JudgeConfig,
    LabConfig,
    NotifyConfig,
    SelectionConfig,
    StopRules,
)
from nightlab.core.config.units import allowed, megabytes

__all__ = [
    "CONTRACT",
    "DEVICES",
    "RESERVED",
    "STRATEGY",
    "AgentConfig",
    "BudgetConfig",
    "CommandConfig",
    "CommonsConfig",
    "ControllerConfig",
    "CrossoverConfig",
    "Event",
    "JudgeConfig",
    "LabConfig",
    "ModelConfig",
    "NotifyConfig",
    "PatchesConfig",
    "PluginProposerConfig",
    "ProgramConfig",
    "SelectionConfig",
    "StopRules",
    "TunerConfig",
    "allowed",
    "amended",
    "detect",
    "from_files",
    "load_contract",
    "megabytes",
    "parse",
    "problem_in",
    "to_toml",
]
