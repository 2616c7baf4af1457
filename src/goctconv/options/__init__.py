"""Options: fields of a dataclass from which help, command line, files, checks and checkpoints are derived."""

from ._configuration import Configuration as Configuration
from ._configuration import changed as changed
from ._configuration import documented as documented
from ._configuration import explains_options as explains_options
from ._configuration import option as option
from ._configuration import options_of as options_of
from ._configuration import read_toml as read_toml
from ._option import FIXED as FIXED
from ._option import FREE as FREE
from ._option import SWITCH as SWITCH
from ._option import TEXT as TEXT
from ._option import UNTIL_PRUNED as UNTIL_PRUNED
from ._option import Kind as Kind
from ._option import Option as Option
from ._option import absolute as absolute
from ._option import choice as choice
from ._option import describe as describe
from ._option import float_of as float_of
from ._option import integer as integer
from ._option import number as number
from ._option import path as path
from ._option import paths as paths
from ._option import several as several
from ._option import shares as shares
