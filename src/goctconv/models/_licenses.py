"""Consent to the licences of weights that are not ours."""

from __future__ import annotations

import os

CONSENT_VARIABLE = "GOCTCONV_ACCEPT_LICENSES"


class LicenseError(PermissionError):
    """Weights whose licence has conditions were asked for, and nobody has accepted it."""


def require_license(license_name: str, what: str, source: str, accepted: str | None) -> None:
    """Check that the user has accepted a licence, by argument or environment variable; it is stored nowhere.

    Args:
        license_name: Its SPDX identifier, such as "cc-by-nc-sa-4.0".
        what: The weights, for the error.
        source: Where they come from, for the error.
        accepted: What the user accepts, or None.

    Raises:
        LicenseError: Not accepted; the message says how to.
    """
    offered = [accepted] if accepted else os.environ.get(CONSENT_VARIABLE, "").split(",")
    if license_name.lower() in (name.strip().lower() for name in offered):
        return
    instead = f" (got accept_license={accepted!r})" if accepted else ""
    raise LicenseError(
        f"the weights of {what} are the work of others, licensed {license_name.upper()} (source: {source}). "
        f"Read the licence; if you accept it, pass accept_license={license_name!r} or set the environment variable "
        f"{CONSENT_VARIABLE}={license_name}{instead}. A file that you already have loads with checkpoint_path= instead."
    )
