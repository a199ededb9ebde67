"""moto's S3 server in this process, on a port of its own, which counts what it is asked."""

import contextlib
import json
import logging
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

BUCKET = "bucket"


@dataclass
class Server:
    """A server with one bucket. Any keys will do, but for those of :meth:`locked`."""

    port: int
    asked: list[str] = field(default_factory=list)
    """Method, path and query of each request."""

    @property
    def query(self) -> str:
        """What stands behind the path of a URI."""
        return f"endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def uri(self, folder: str, keys: str = "access_key=any&secret_key=any/thing") -> str:
        """Of a folder in the bucket, with all that it takes to get there."""
        return f"s3://{BUCKET}/{folder}?{self.query}&{keys}"

    @property
    def environment(self) -> dict[str, str]:
        """The same as variables."""
        url = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}
        return url | {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "thing"}

    def client(self, service: str = "s3") -> Any:
        """Amazon's own client."""
        import boto3

        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "thing", "region_name": "us-east-1"}
        return boto3.client(service, endpoint_url=f"http://127.0.0.1:{self.port}", **keys)

    def objects(self, folder: str) -> list[str]:
        """Keys below a folder."""
        found = self.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{folder}/")
        return [each["Key"] for each in found.get("Contents", [])]

    @contextlib.contextmanager
    def locked(self) -> Iterator[str]:
        """Only the keys that this gives, in the form of a query, open the bucket now."""
        iam = self.client("iam")
        iam.create_user(UserName="one")
        rule = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        iam.put_user_policy(UserName="one", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="one")["AccessKey"]
        self._authenticated_from(0)
        try:
            yield f"access_key={key['AccessKeyId']}&secret_key={key['SecretAccessKey']}"
        finally:
            self._authenticated_from(float("inf"))

    def _authenticated_from(self, request: float) -> None:
        """As moto's documentation on IAM says."""
        url = f"http://127.0.0.1:{self.port}/moto-api/reset-auth"
        plain = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, str(request).encode(), plain)).close()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server for the length of the block."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = DomainDispatcherApplication(create_backend_app)
    asked: list[str] = []

    def counting(environ: dict[str, Any], start: Any) -> Any:
        asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}")
        return app(environ, start)

    http = make_server("127.0.0.1", 0, counting, threaded=True)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server = Server(http.port, asked)
    server.client().create_bucket(Bucket=BUCKET)
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
