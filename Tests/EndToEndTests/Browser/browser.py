#!/usr/bin/env python3
"""Drives a headless Chromium through its debugging pipe, with nothing but the standard library.

  browser.py CHROMIUM URL [--width W] [--height H] [--dark] [--limit SECONDS] [STEP...]

Each step is one of
  wait:EXPRESSION       until the expression is true in the page
  do:EXPRESSION         run it
  get:NAME=EXPRESSION   its value goes into the answer
  shot:FILE             a picture of the page, PNG
  key:KEY               press a key

Prints one JSON object: the values by name, and `complaints`: what the browser reported as errors, such as exceptions and
violations of the content security policy. Status 1 with the reason when a step fails.
"""
import argparse
import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time


# Codes of keys that are no characters.
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27}


class Browser:
    def __init__(self, chromium, limit, directory):
        self.deadline = time.monotonic() + limit
        to_read, self.to = os.pipe()
        self.fro, from_write = os.pipe()
        # The browser expects the pipe on descriptors 3 and 4.
        def arrange():
            first, second = os.dup(to_read), os.dup(from_write)
            os.dup2(first, 3)
            os.dup2(second, 4)
        os.set_inheritable(to_read, True)
        os.set_inheritable(from_write, True)
        self.process = subprocess.Popen(
            [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--hide-scrollbars", "--disable-extensions", "--disable-background-networking",
             "--disable-component-update", "--no-proxy-server", "--force-color-profile=srgb",
             "--remote-debugging-pipe", f"--user-data-dir={directory}", "about:blank"],
            preexec_fn=arrange, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(from_write)
        self.rest = b""
        self.last = 0
        self.session = None
        self.complaints = []

    def end(self):
        # It is in this process's group, so that whoever ends this program ends it too.
        self.process.kill()
        self.process.wait()

    def message(self):
        while b"\0" not in self.rest:
            left = self.deadline - time.monotonic()
            if left <= 0 or not select.select([self.fro], [], [], left)[0]:
                raise TimeoutError("the browser did not answer in time")
            part = os.read(self.fro, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self.rest += part
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.last += 1
        request = {"id": self.last, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.to, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(answer["params"]["exceptionDetails"].get("exception", {}).get("description", "?"))
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] in ("error", "warning"):
                self.complaints.append(answer["params"]["entry"]["text"])

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']['text']}")
        return result["result"].get("value")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("chromium")
    parser.add_argument("url")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("steps", nargs="*")
    options = parser.parse_intermixed_args()
    directory = tempfile.mkdtemp(prefix="ambient-browser-")
    browser = Browser(options.chromium, options.limit, directory)
    answer = {}
    try:
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            browser.call(f"{domain}.enable")
        browser.call("Emulation.setDeviceMetricsOverride", width=options.width, height=options.height,
                     deviceScaleFactor=1, mobile=options.width < 600)
        features = [{"name": "prefers-color-scheme", "value": "dark" if options.dark else "light"},
                    {"name": "prefers-reduced-motion", "value": "reduce"}]
        browser.call("Emulation.setEmulatedMedia", features=features)
        browser.call("Page.navigate", url=options.url)
        for step in options.steps:
            kind, _, value = step.partition(":")
            if kind == "wait":
                while not browser.evaluate(f"document.body !== null && ({value})"):
                    if time.monotonic() > browser.deadline:
                        raise TimeoutError(f"never true: {value}; the page says: "
                                           + str(browser.evaluate("document.body.innerText"))[:2000])
                    time.sleep(0.05)
            elif kind == "do":
                browser.evaluate(value)
            elif kind == "get":
                name, _, expression = value.partition("=")
                answer[name] = browser.evaluate(expression)
            elif kind == "key":
                for event in ("keyDown", "keyUp"):
                    text = value if event == "keyDown" and len(value) == 1 else ""
                    browser.call("Input.dispatchKeyEvent", type=event, key=value, text=text, windowsVirtualKeyCode=KEYS.get(value, ord(value[0])))
            elif kind == "shot":
                picture = browser.call("Page.captureScreenshot", format="png")
                with open(value, "wb") as file:
                    file.write(base64.b64decode(picture["data"]))
            else:
                raise RuntimeError(f"no such step: {step}")
        answer["complaints"] = browser.complaints
        print(json.dumps(answer))
    except (RuntimeError, TimeoutError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        browser.end()
        shutil.rmtree(directory, ignore_errors=True)
    return 0


sys.exit(main())
