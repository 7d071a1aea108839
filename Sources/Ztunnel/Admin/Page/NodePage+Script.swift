/// What the page does. Names come from outside and are only ever text: nothing is made from HTML.
extension NodePage {
  static let script = #"""
    "use strict";
    (() => {
      const at = (id) => document.getElementById(id);
      const show = (element, isShown) => { element.hidden = !isShown; };
      const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };
      const make = (name, kind, text) => {
        const element = document.createElement(name);
        if (kind) element.className = kind;
        if (text !== undefined) element.textContent = text;
        return element;
      };
      const count = (value) => value.toLocaleString("en");
      const bytes = (value) => {
        const units = ["B", "kB", "MB", "GB", "TB", "PB"];
        let unit = 0;
        while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
        return (unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)) + " " + units[unit];
      };
      const span = (seconds) => {
        if (seconds < 1) return "now";
        if (seconds < 120) return Math.floor(seconds) + " s";
        if (seconds < 7200) return Math.floor(seconds / 60) + " min";
        if (seconds < 172800) return Math.floor(seconds / 3600) + " h";
        return Math.floor(seconds / 86400) + " d";
      };

      // Rows are kept by key, so that what somebody has focused or selected stays.
      const keep = (body, items, key, fill, cells) => {
        const old = new Map();
        for (const row of body.children) old.set(row.dataset.key, row);
        const held = body.matches(":hover") || body.contains(document.activeElement);
        let place = body.firstElementChild;
        for (const item of items) {
          const name = key(item);
          let row = old.get(name);
          if (row) { old.delete(name); } else {
            row = make("tr");
            row.dataset.key = name;
            for (const cell of cells) {
              const data = make("td", cell.number ? "number" : "");
              data.dataset.name = cell.name;
              data.append(make("div"));
              row.append(data);
            }
          }
          fill(row, [...row.children].map((data) => data.firstElementChild));
          if (held && row.parentNode) continue;
          if (row === place) { place = place.nextElementSibling; } else { body.insertBefore(row, place); }
        }
        for (const row of old.values()) row.remove();
      };
      // A text that is broken behind slashes where it is too long, and copied as it is.
      const writePath = (node, text) => {
        if (node.textContent === text) return;
        node.replaceChildren(...text.split(/(?<=[^/]\/)/).flatMap((part, index) => index ? [make("wbr"), part] : [part]));
      };
      // One or two lines of text, each written only when it changes.
      const lines = (cell, ...texts) => {
        texts = texts.filter((line) => line && line[1]);
        while (cell.children.length > texts.length) cell.lastElementChild.remove();
        texts.forEach(([kind, text], index) => {
          const line = cell.children[index] || cell.appendChild(make("span"));
          if (line.className !== kind) line.className = kind;
          if (kind.endsWith("path")) writePath(line, text); else write(line, text);
        });
      };

      const workloadCells = [{ name: "Pod" }, { name: "Enrolment" }, { name: "Identity" }, { name: "Certificate" },
        { name: "In", number: true }, { name: "Out", number: true }, { name: "Plaintext", number: true }];
      // As policies write it, and short enough for a line.
      const principal = (identity) => (identity || "").replace(/^spiffe:\/\//, "");

      const connectionCells = [{ name: "Protection" }, { name: "From" }, { name: "To" }, { name: "Sent", number: true },
        { name: "Received", number: true }, { name: "Age", number: true }];
      const policyCells = [{ name: "Policy" }, { name: "Action" }, { name: "Scope" }, { name: "Rules", number: true },
        { name: "Allowed", number: true }, { name: "Denied", number: true }, { name: "Dry run", number: true }];

      const showCertificate = (cell, pod, now) => {
        const own = pod.certificate;
        if (!own || !own.expires) {
          const isBad = own && own.state === "unavailable";
          lines(cell, [isBad ? "tag bad" : "tag warn", own ? own.state : "not asked for yet"], ["sub", isBad ? own.detail : ""]);
          return;
        }
        const left = own.expires - now;
        const life = Math.max(1, own.expires - own.issued);
        if (!cell.querySelector(".meter")) {
          cell.replaceChildren(make("span", "main"), make("span", "sub"));
          const meter = make("div", "meter age");
          meter.append(make("span"));
          cell.append(meter);
        }
        write(cell.children[0], left < 0 ? "expired" : span(left) + " left");
        write(cell.children[1], span(now - own.issued) + " old" + (own.lastError ? "; not renewed: " + own.lastError : ""));
        const meter = cell.querySelector(".meter");
        meter.classList.toggle("low", left < life / 4);
        meter.firstElementChild.style.width = Math.max(0, Math.min(100, 100 * left / life)) + "%";
      };
      const showWorkloads = (overview) => {
        const pods = overview.pods;
        write(at("workloads-count"), count(pods.length));
        show(at("workloads-empty"), pods.length === 0);
        show(at("workload-rows").parentNode, pods.length > 0);
        keep(at("workload-rows"), pods, (pod) => pod.uid, (row, cells) => {
          const pod = pods.find((pod) => pod.uid === row.dataset.key);
          lines(cells[0], ["main", pod.namespace + "/" + pod.name], ["sub mono", (pod.addresses || []).join(", ")]);
          lines(cells[1], ...enrolment(pod));
          lines(cells[2], pod.identity ? ["mono path", pod.identity] : ["tag bad", "not known to the mesh"],
            ["sub", pod.waypoint ? "behind waypoint " + pod.waypoint : ""]);
          showCertificate(cells[3], pod, overview.now);
          lines(cells[4], ["main", count(pod.inbound)]);
          lines(cells[5], ["main", count(pod.outbound)]);
          lines(cells[6], pod.plaintext ? ["tag warn", count(pod.plaintext)] : ["quiet", "0"]);
        }, workloadCells);
        const names = at("pod-names");
        const text = pods.map((pod) => pod.namespace + "/" + pod.name).join(" ");
        if (names.dataset.text !== text) {
          names.dataset.text = text;
          names.replaceChildren(...pods.slice(0, 500).map((pod) => {
            const option = make("option");
            option.value = pod.namespace + "/" + pod.name;
            return option;
          }));
        }
      };
      // What the agent has proven, where it can be asked; else what this proxy knows for itself.
      const enrolment = (pod) => {
        const proof = pod.proof;
        if (!pod.served) return [["tag bad", "pending"], ["sub", "handed over, but cannot be served: refused"]];
        if (!proof) return [["tag good", "served"], ["sub", "listening inside"]];
        const isGood = proof.state === "PROVEN";
        const ago = proof.lastProven ? (Date.now() - Date.parse(proof.lastProven)) / 1000 : NaN;
        return [[isGood ? "tag good" : "tag bad", proof.state.toLowerCase()],
          ["sub", proof.deviations[0] || (ago < 2 ? "rules read back just now"
            : ago >= 2 ? "rules read back " + span(ago) + " ago" : "")],
          ["sub", proof.escapedPackets ? count(proof.escapedPackets) + " packets escaped" : ""],
          ["sub", proof.stoppedPackets ? count(proof.stoppedPackets) + " packets stopped on their way past" : ""]];
      };

      const end = (side, pod, isOwn) => isOwn ? pod
        : side.workload ? (side.namespace ? side.namespace + "/" : "") + side.workload : side.address;
      const showConnections = (data) => {
        const list = data.connections;
        const byKey = new Map(list.map((one) => [one.id, one]));
        write(at("connections-count"), data.matching === data.total ? count(data.total)
          : count(data.matching) + " of " + count(data.total));
        show(at("connection-table"), list.length > 0);
        show(at("connections-empty"), list.length === 0);
        write(at("connections-empty"), data.total === 0 ? "Nothing is connected right now." : "None of "
          + count(data.total) + " connections matches.");
        show(at("connections-more"), data.matching > list.length);
        write(at("connections-more"), "The " + count(list.length) + " busiest of " + count(data.matching)
          + " are shown. Find narrows them down; /connections has more.");
        keep(at("connection-rows"), list, (one) => one.id, (row, cells) => {
          const one = byKey.get(row.dataset.key);
          const isOut = one.direction === "outbound";
          lines(cells[0], one.encrypted ? ["tag good", "encrypted"] : ["tag warn", "plaintext"],
            ["sub", one.encrypted ? (one.protocol === "DOUBLEHBONE" ? "HBONE in HBONE" : "HBONE, mutual TLS")
              : one.plaintextReason],
            ["sub", one.allowedBy ? "allowed by " + one.allowedBy : ""],
            ["sub", one.state === "opening" ? "being set up" : ""]);
          lines(cells[1], ["main", end(one.source, one.pod, isOut)], ["sub mono", one.source.address],
            ["sub mono path", principal(one.source.identity)]);
          lines(cells[2], ["main", one.service && isOut ? one.service : end(one.destination, one.pod, !isOut)],
            ["sub mono", (one.originalDestination && one.originalDestination !== one.actualDestination
              ? one.originalDestination + " → " : "") + one.actualDestination],
            ["sub mono path", principal(one.destination.identity)]);
          lines(cells[3], ["main", bytes(one.sentRate) + "/s"], ["sub", bytes(one.bytesSent)]);
          lines(cells[4], ["main", bytes(one.receivedRate) + "/s"], ["sub", bytes(one.bytesReceived)]);
          lines(cells[5], ["main", span(one.ageMilliseconds / 1000)], ["sub", isOut ? "outbound" : "inbound"]);
        }, connectionCells);
      };

      const showPolicies = (overview) => {
        const all = overview.policies;
        const byKey = new Map(all.map((policy) => [policy.key, policy]));
        write(at("policies-count"), count(all.length));
        show(at("policies-empty"), all.length === 0);
        show(at("policy-rows").parentNode, all.length > 0);
        // Those that decide come first.
        const weight = (policy) => policy.denied * 1e6 + policy.dryRunHits * 1e3 + policy.allowed;
        const shown = [...all].sort((a, b) => weight(b) - weight(a) || (a.key < b.key ? -1 : 1)).slice(0, 200);
        keep(at("policy-rows"), shown, (policy) => policy.key, (row, cells) => {
          const policy = byKey.get(row.dataset.key);
          lines(cells[0], ["main", policy.key]);
          lines(cells[1], [policy.action === "deny" ? "tag bad" : "tag good", policy.action.toUpperCase()],
            ["sub", policy.dryRun ? "dry run: reported, never enforced" : ""]);
          lines(cells[2], ["", { global: "every workload", namespace: "its namespace",
            workloadSelector: "selected workloads" }[policy.scope] || policy.scope]);
          lines(cells[3], ["quiet", count(policy.rules)]);
          lines(cells[4], [policy.allowed ? "main" : "quiet", count(policy.allowed)]);
          lines(cells[5], [policy.denied ? "tag bad" : "quiet", count(policy.denied)]);
          lines(cells[6], [policy.dryRunHits ? "tag warn" : "quiet", count(policy.dryRunHits)]);
        }, policyCells);
        show(at("policies-note"), overview.deniedByNone > 0);
        write(at("policies-note"), count(overview.deniedByNone)
          + " connections were denied because ALLOW policies exist and none covered them.");
      };

      const history = [];
      const spark = (value) => {
        history.push(value);
        if (history.length > 60) history.shift();
        const top = Math.max(...history, 1);
        const points = history.map((one, index) => ((120 * (index + 60 - history.length)) / 59).toFixed(1) + " "
          + (27 - (25 * one) / top).toFixed(1));
        at("spark-line").setAttribute("d", "M" + points.join("L"));
        at("spark-fill").setAttribute("d", "M" + points.join("L") + "L120 28L" + points[0].split(" ")[0] + " 28Z");
      };
      const showState = ({ overview, connections }) => {
        document.body.classList.remove("stale");
        document.title = (overview.problems.length ? "(" + overview.problems.length + ") " : "") + "ztunnel"
          + (overview.node ? " · " + overview.node : "");
        write(at("node"), overview.node || "");
        write(at("version"), "ztunnel " + overview.version);
        const problems = overview.problems;
        status(problems.length ? "bad" : "good", problems.length === 0 ? "All well"
          : problems.length + (problems.length === 1 ? " problem" : " problems"));
        show(at("problems"), problems.length > 0);
        const list = at("problem-list");
        if (list.dataset.text !== problems.join("\n")) {
          list.dataset.text = problems.join("\n");
          list.replaceChildren(...problems.slice(0, 20).map((text) => make("li", "", text)));
          if (problems.length > 20) list.append(make("li", "", "and " + (problems.length - 20) + " more"));
        }
        const served = overview.pods.filter((pod) => pod.served).length;
        write(at("pods-served"), count(served));
        write(at("pods-note"), served === overview.pods.length ? "all handed over"
          : "of " + count(overview.pods.length) + " handed over");
        write(at("live"), count(connections.total));
        write(at("live-note"), connections.plaintext ? count(connections.plaintext) + " in plaintext" : "none in plaintext");
        const part = connections.total ? (connections.total - connections.plaintext) / connections.total : null;
        // Never rounded up to all of them.
        write(at("encrypted"), part === null ? "–" : Math.floor(100 * part) + " %");
        at("encrypted-meter").style.width = part === null ? "0" : 100 * part + "%";
        write(at("throughput"), "↑ " + bytes(connections.sentRate) + "/s\u2003↓ " + bytes(connections.receivedRate) + "/s");
        spark(connections.sentRate + connections.receivedRate);
        write(at("failures"), count(overview.failures));
        showWorkloads(overview);
        showConnections(connections);
        showPolicies(overview);
        document.body.dataset.updates = Number(document.body.dataset.updates || 0) + 1;
      };

      // The stream: closed while nobody looks, opened again with growing pauses.
      let source = null;
      let failures = 0;
      let timer = 0;
      let isPaused = false;
      const status = (kind, text) => {
        at("state").className = "pill " + kind;
        write(at("state"), text);
      };
      const close = () => {
        clearTimeout(timer);
        if (source) source.close();
        source = null;
      };
      const open = () => {
        close();
        if (isPaused || document.hidden) return;
        const query = new URLSearchParams({ search: at("search").value, plaintext: at("plaintext").checked });
        source = new EventSource("/events?" + query);
        source.addEventListener("state", (event) => {
          failures = 0;
          showState(JSON.parse(event.data));
        });
        source.onerror = () => {
          close();
          failures += 1;
          const wait = Math.min(30, 2 ** Math.min(failures - 1, 5)) * (0.75 + Math.random() / 2);
          document.body.classList.add("stale");
          let left = Math.ceil(wait);
          const tick = () => {
            if (left <= 0) { open(); return; }
            status("waiting", "no answer; again in " + left + " s");
            left -= 1;
            timer = setTimeout(tick, 1000);
          };
          tick();
        };
      };
      document.addEventListener("visibilitychange", open);
      at("pause").addEventListener("click", () => {
        isPaused = !isPaused;
        at("pause").setAttribute("aria-pressed", String(isPaused));
        write(at("pause"), isPaused ? "Resume" : "Pause");
        if (isPaused) { close(); status("waiting", "paused"); } else { open(); }
      });
      let typing = 0;
      at("search").addEventListener("input", () => {
        clearTimeout(typing);
        typing = setTimeout(open, 250);
      });
      at("plaintext").addEventListener("change", open);
      at("filter").addEventListener("submit", (event) => { event.preventDefault(); open(); });
      document.addEventListener("keydown", (event) => {
        if (event.key !== "/" || event.target.matches("input")) return;
        event.preventDefault();
        at("search").focus();
      });

      at("question").addEventListener("submit", async (event) => {
        event.preventDefault();
        const answer = at("answer");
        const query = new URLSearchParams({ from: at("from").value, to: at("to").value, format: "json" });
        try {
          const response = await fetch("/explain?" + query);
          if (!response.ok) throw new Error(await response.text());
          const found = await response.json();
          const kind = { 0: "good", 1: "bad", 2: "waiting" }[found.exitStatus] || "waiting";
          const verdict = make("p", "verdict");
          verdict.append(make("span", "pill " + kind, found.outcome), " " + found.question);
          const chain = make("ol", "chain");
          for (const line of found.decisions) {
            const item = make("li");
            item.append(make("span", line.mark, { good: "✓", bad: "✗", warning: "?" }[line.mark] || "·"),
              make("span", "quiet", line.topic));
            const what = make("span", "what", line.text);
            item.append(what);
            if (line.source) item.append(make("span", "from quiet", line.source));
            chain.append(item);
          }
          const checks = make("ul", "checks");
          checks.append(...found.check.map((text) => make("li", "", text)));
          answer.replaceChildren(verdict, chain, checks);
        } catch (error) {
          answer.replaceChildren(make("p", "pill bad", error.message));
        }
      });
      open();
    })();
    """#
}
