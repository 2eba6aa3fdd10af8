"""From words to typed values: what was typed and written, composed, checked, and the identity that it makes."""

from pathlib import Path

AXES = ("dataset", "model", "regularizer", "optimizer")
_PACKAGE = Path(__file__).parent.parent
# Inside the package where it is installed from a wheel, beside it in a checkout.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
