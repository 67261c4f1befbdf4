"""Requests to a running web server, and the values that its tests share."""

import json
import urllib.error
import urllib.request

PROTEIN, FUNCTION = "gene/protein", "molecular_function"


def call_api(url: str, arguments: list) -> str:
    """Calls the endpoint `retrieve`; returns the events of the response."""
    endpoint = f"{url}/gradio_api/call/retrieve"
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(endpoint, json.dumps({"data": arguments}).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        event_id = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{endpoint}/{event_id}", timeout=60) as response:
        return response.read().decode()


def post(url: str, path: str, body: bytes, **headers: str) -> tuple[int, str]:
    """Sends a request; returns its status and the error in its answer."""
    headers = {"content-type": "application/json"} | headers
    request = urllib.request.Request(f"{url}/gradio_api/{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as e:
        text = e.read().decode()
        assert text.count("\n") == 1
        return e.code, json.loads(text)["error"]


def multipart(name: str, content: bytes) -> tuple[bytes, str]:
    """Body and content type of a form with one file."""
    head = f'--limit\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--limit--\r\n", "multipart/form-data; boundary=limit"
