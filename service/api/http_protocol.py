"""Answers what is not HTTP as all else that is refused: with a problem document."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.contract.errors import BadRequest


class HttpProtocol(HttpToolsProtocol):
    """The server's protocol, but for what its parser refuses."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser cannot read, and close the connection."""
        body = BadRequest(msg).document().model_dump_json().encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            "content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
