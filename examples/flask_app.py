"""Flask: a view enqueues, the handler works inside of the application's context.

Run `flask --app examples.flask_app run` and `hotqueue-worker examples.flask_app`, then
`curl -X POST localhost:5000/greet/Ada`.
"""

from flask import Flask, current_app

from hotqueue import HotQueue

app = Flask(__name__)
app.config["GREETING"] = "Hello"
queue = HotQueue("visitors")


@app.post("/greet/<name>")
def greet_later(name: str) -> tuple[dict[str, str], int]:
    return {"id": greet.send(name)}, 202


@queue.worker
def greet(name: str) -> None:
    with app.app_context():
        print(f"{current_app.config['GREETING']}, {name}!")
