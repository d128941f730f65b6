"""``python -m package``."""

from package.cli import package

package(prog_name="python -m package")
