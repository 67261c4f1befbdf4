"""The application behind the server: the page and its API, with Gradio for uploads and its clients.

The page, its script and its JSON API are routes of their own (`api`). Gradio receives uploads and
answers `gradio_client`.
"""

import logging
from collections.abc import Callable
from typing import Any

from bridge_jax.errors import InputError
from bridge_jax.web.examples import choose_examples
from bridge_jax.web.records import retrieve_records
from bridge_jax.web.service import QueryService

# Queries that run at the same time. The device runs one at a time; the rest of a query is Python.
MAX_CONCURRENT_QUERIES = 4
MAX_WAITING_QUERIES = 256
# Sessions, and answers that nobody fetched, of which Gradio keeps some 100 kB each.
MAX_SESSIONS, MAX_UNFETCHED = 64, 512
UPLOAD_LIFETIME = 3600  # seconds

_log = logging.getLogger(__name__)


def import_gradio() -> Any:
    """Imports the gradio package.

    Raises:
      InputError: Gradio is not installed.
    """
    try:
        import gradio
    except ImportError as e:
        raise InputError("the web page needs Gradio: pip install 'bridge_jax[serve]'") from e
    return gradio


def make_blocks(gr: Any) -> Any:
    """Makes the class of the Gradio app, with bounded memory and errors of one line."""

    class Page(gr.Blocks):  # type: ignore[misc]
        async def process_api(self, *args: Any, **kwargs: Any) -> Any:
            """Runs one event of a client."""
            self._forget_sessions()
            try:
                return await super().process_api(*args, **kwargs)
            except gr.Error as e:
                e.print_exception = False
                raise
            except InputError as e:
                raise gr.Error(str(e), print_exception=False) from e
            except Exception as e:
                # No client of ours sends such an event, and a traceback would help nobody.
                _log.warning("an event cannot be processed: %a", f"{type(e).__name__}: {e}"[:300])
                _log.debug("its traceback:", exc_info=True)
                message = "the request cannot be processed; check its parameters"
                raise gr.Error(message, print_exception=False) from None

        def _forget_sessions(self) -> None:
            """Drops the events of sessions that are over, which Gradio keeps."""
            queue = self._queue
            queue.pending_messages_per_session.max_size = MAX_UNFETCHED
            sessions, unfetched = (
                queue.pending_event_ids_session,
                queue.pending_messages_per_session,
            )
            for session in [s for s, ids in sessions.items() if not ids or s not in unfetched]:
                sessions.pop(session, None)

    return Page


def build_app(service: QueryService) -> Any:
    """Builds the part of the app that Gradio answers.

    Args:
      service: Service that answers the requests.

    Returns:
      Gradio blocks that are not launched yet.
    """
    gr = import_gradio()
    with make_blocks(gr)(
        title=f"bridge_jax · {service.title}",
        analytics_enabled=False,
        delete_cache=(60, UPLOAD_LIFETIME),
    ) as app:
        gr.api(_make_endpoint(service), api_name="retrieve", **_QUERY_QUEUE)
    app.queue(max_size=MAX_WAITING_QUERIES)
    app.state_session_capacity = MAX_SESSIONS
    return app


def mount(
    app: Any, root_path: str, max_upload_bytes: int, service: QueryService | None = None
) -> Any:
    """Mounts Gradio into an ASGI application of its own, behind the routes of the page.

    Args:
      app: Gradio blocks from `build_app`.
      root_path: Path behind a proxy; empty for none.
      max_upload_bytes: Largest size of an upload.
      service: Service that answers the page; default: no page.
    """
    import_gradio()
    from fastapi import FastAPI
    from gradio import mount_gradio_app

    if service is None:
        api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    else:
        from bridge_jax.web.api import make_api

        api = make_api(service, choose_examples(service), root_path)
    return mount_gradio_app(
        api,
        app,
        "/",
        run_history=False,
        root_path=root_path or None,
        show_error=False,
        max_file_size=max_upload_bytes,
        ssr_mode=False,
    )


_QUERY_QUEUE = {"concurrency_id": "queries", "concurrency_limit": MAX_CONCURRENT_QUERIES}


def _make_endpoint(service: QueryService) -> Callable[..., list[dict[str, Any]]]:
    """Makes the function behind the JSON API; Gradio shows its signature and docstring to users."""

    def retrieve(
        source: str, relation: str, target: str, query: str, k: int = 10, known: str = "mark"
    ) -> list[dict[str, Any]]:
        return retrieve_records(service, source, relation, target, query, k, known)

    retrieve.__doc__ = retrieve_records.__doc__
    return retrieve
