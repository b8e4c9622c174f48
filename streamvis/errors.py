"""Everything streamvis raises on purpose.

StreamvisError                exit code 1
├── UsageError                2    a command line, or a call, that cannot be meant
├── ConfigError               2    a pipeline, placement or training file that does not add up
├── SourceError               3    a source that cannot be opened or read
├── ModelError                4    a model, its weights or its device
│   ├── WeightsError               a weights file that is not one, or does not fit
│   └── DeviceError                a device that is not there
├── InstallationError         1    a package that cannot be imported
├── RunError                  1    the run itself failed: workers dying, shared memory, ports
│   ├── InUseError                 another run writes into the directory
│   └── EndedEarlyError     130, 143   ended at once, by a second SIGINT or SIGTERM
└── DataError                 2    pictures, detections, annotations or logs that cannot be used

Each message says where, what was found, what was expected, and what to do.
"""


class StreamvisError(Exception):
    """The root; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(StreamvisError):
    exit_code = 2


class ConfigError(StreamvisError):
    exit_code = 2


class DataError(StreamvisError):
    exit_code = 2


class SourceError(StreamvisError):
    exit_code = 3


class ModelError(StreamvisError):
    exit_code = 4


class WeightsError(ModelError):
    pass


class DeviceError(ModelError):
    pass


class InstallationError(StreamvisError):
    pass


class RunError(StreamvisError):
    pass


class InUseError(RunError):
    pass


class EndedEarlyError(RunError):
    """Ended by a signal before it was finished; its exit code is 128 and the signal's number."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal
