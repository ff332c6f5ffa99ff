# SPDX-License-Identifier: Apache-2.0
"""
Ministack as the tests start it: as it is, with a record of the requests.

A program, run with the Python of `.venv-ministack`; its argument is the file of the record. Ministack
takes its settings from the environment.
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from recorded import Recorder

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


def recording(application: Application, recorder: Recorder) -> Application:
    """Return *application* (ASGI) with every request written down before it is answered."""

    async def asked(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return await application(scope, receive, send)
        request, answer, started = bytearray(), bytearray(), {}

        async def received() -> Message:
            message = await receive()
            request.extend(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            # The whole answer is kept back until the record is written.
            if message["type"] == "http.response.start":
                started.update(message)
                return
            answer.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
            recorder.record(headers, bytes(request), started["status"], bytes(answer))
            await send(started)
            await send({**message, "body": bytes(answer)})

        return await application(scope, received, sent)

    return asked


if __name__ == "__main__":
    from ministack import app

    app.app = recording(app.app, Recorder(Path(sys.argv.pop(1))))
    app.main()
