# SPDX-License-Identifier: Apache-2.0
"""
Moto's server as the tests start it: its KMS decides per key who may what, and requests are recorded.

A program; its arguments are the port and the file of the record. What is set right here:

* moto asks identity policies about the resource `*`, and about `kms:ReEncrypt`, which is no permission. Here they
  are asked about the key that a request names, that an alias stands for, or that a ciphertext was made with; and
  for `ReEncrypt` about `kms:ReEncryptFrom` on one key and `kms:ReEncryptTo` on the other.
* moto answers 403 and XML where KMS answers 400 and JSON, with codes of other services.
* moto knows a key by its id only in some operations; here by its ARN in all.
* moto makes ids of multi-Region keys too long for its own ciphertexts; here they are AWS's: `mrk-` and 32 digits.
* moto calls the wrong key for a ciphertext `AccessDeniedException`; here `IncorrectKeyException`.

Leans on private names of moto's `KmsResponse` and on the layout of its ciphertexts, as of moto 5.2:
`test_aws.py` fails where they are otherwise.
"""

import base64
import io
import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import (
    AccessDeniedError,
    InvalidClientTokenIdError,
    JsonRESTError,
    SignatureDoesNotMatchError,
)
from moto.kms import models
from moto.kms.exceptions import AccessDeniedException
from moto.kms.responses import KmsResponse
from moto.kms.utils import _deserialize_ciphertext_blob
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from recorded import Recorder
from werkzeug.serving import run_simple

_get_action, _get_param = KmsResponse._get_action, KmsResponse._get_param
_validate_cmk_id, _decrypt = KmsResponse._validate_cmk_id, KmsResponse.decrypt
_generate_key_id = models.generate_key_id

_CODES: dict[type[Exception], str] = {
    AccessDeniedError: "AccessDeniedException",
    InvalidClientTokenIdError: "UnrecognizedClientException",
    SignatureDoesNotMatchError: "InvalidSignatureException",
}


class PerKey:
    """What `KmsResponse` does instead."""

    asked_action: str | None = None

    def _get_action(self: Any) -> Any:
        return self.asked_action or _get_action(self)

    def _get_param(self: Any, param_name: str, if_none: Any = None) -> Any:
        value = _get_param(self, param_name, if_none)
        if param_name in {"KeyId", "TargetKeyId", "DestinationKeyId"}:
            here = f"arn:aws:kms:{self.region}:{self.current_account}:key/"
            return str(value).removeprefix(here) if value else value
        return value

    def _validate_cmk_id(self: Any, key_id: str) -> None:
        if self.kms_backend.get_key_id(key_id) not in self.kms_backend.keys:
            _validate_cmk_id(self, key_id)

    def decrypt(self: Any) -> str:
        try:
            return _decrypt(self)
        except AccessDeniedException as error:
            if self._get_param("KeyId") is None:
                raise
            raise JsonRESTError(
                "IncorrectKeyException", "not the key of this ciphertext"
            ) from error

    def _authenticate_and_authorize_normal_action(self: Any, resource: str = "*") -> None:
        del resource
        try:
            for action, arn in asked_about(self):
                self.asked_action = action
                ActionAuthenticatorMixin._authenticate_and_authorize_normal_action(self, arn)
        except tuple(_CODES) as error:
            raise JsonRESTError(_CODES[type(error)], str(error.message)) from error
        finally:
            self.asked_action = None


def generate_key_id(multi_region: bool = False) -> str:
    """Return a new id of a key."""
    made = _generate_key_id(multi_region)
    return f"mrk-{made.removeprefix('mrk-').replace('-', '')}" if multi_region else made


def asked_about(response: Any) -> list[tuple[str, str]]:
    """Return what the principal needs: permissions, and the ARN of the key each is about."""
    action, asked = _get_action(response), json.loads(response.body or "{}")
    named, ciphertext = asked.get("KeyId") or asked.get("TargetKeyId"), asked.get("CiphertextBlob")
    if action == "ReEncrypt":
        return [
            ("ReEncryptFrom", _arn(response, None, ciphertext)),
            ("ReEncryptTo", _arn(response, asked["DestinationKeyId"], None)),
        ]
    return [(action, _arn(response, named, ciphertext))]


def _arn(response: Any, named: str | None, ciphertext: str | None) -> str:
    backend = response.kms_backend
    try:
        if named:
            key = backend.any_id_to_key_id(named)
        else:
            key = _deserialize_ciphertext_blob(base64.b64decode(ciphertext or "")).key_id
    except Exception:
        return "*"
    found = backend.keys.get(key)
    return found.arn if found is not None else "*"


class Recorded:
    """*application* (WSGI) with every request written down before it is answered."""

    def __init__(self, application: Any, recorder: Recorder) -> None:
        self.application = application
        self.recorder = recorder

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        begun: list[Any] = []
        answered = self.application(environ, lambda *given: begun.append(given))
        answer = b"".join(answered)
        if hasattr(answered, "close"):
            answered.close()
        headers = [
            (name.removeprefix("HTTP_").replace("_", "-"), value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ]
        self.recorder.record(headers, body, int(begun[0][0].split()[0]), answer)
        start_response(*begun[0])
        return [answer]


if __name__ == "__main__":
    port, record = sys.argv[1:]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    models.generate_key_id = generate_key_id
    for name, changed in vars(PerKey).items():
        if not name.startswith("__"):
            setattr(KmsResponse, name, changed)
    run_simple(
        "127.0.0.1", int(port),
        Recorded(DomainDispatcherApplication(create_backend_app), Recorder(Path(record))),
        threaded=True, request_handler=MotoRequestHandler,
    )  # fmt: skip
