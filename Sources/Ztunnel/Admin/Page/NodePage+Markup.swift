/// The page's structure. Everything in it that changes is made by the script, with text nodes only.
extension NodePage {
  static let html = """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>ztunnel</title>
    <link rel="icon" href="data:,">
    <style nonce="\(placeholder)">\(style)</style>
    </head>
    <body>
    <a class="skip" href="#main">Skip to the content</a>
    <header>
    <div class="bar">
    <h1><span class="mark" aria-hidden="true"></span>ztunnel <span class="quiet" id="node"></span></h1>
    <p class="pill waiting" id="state" role="status" aria-live="polite">connecting…</p>
    <button type="button" id="pause" aria-pressed="false">Pause</button>
    </div>
    <nav aria-label="Sections">
    <a href="#workloads">Workloads</a><a href="#connections">Connections</a><a href="#policies">Policies</a>
    <a href="#explain">Explain</a>
    </nav>
    </header>
    <main id="main" tabindex="-1">
    <section id="problems" class="problems" aria-labelledby="problems-title" hidden>
    <h2 id="problems-title">What needs a look</h2>
    <ul id="problem-list"></ul>
    </section>

    <section class="tiles" aria-label="Now">
    <div class="tile"><h2>Pods served</h2><p class="figure" id="pods-served">–</p><p class="quiet" id="pods-note"></p></div>
    <div class="tile"><h2>Live connections</h2><p class="figure" id="live">–</p><p class="quiet" id="live-note"></p></div>
    <div class="tile"><h2>Encrypted</h2><p class="figure" id="encrypted">–</p>
    <div class="meter" aria-hidden="true"><span id="encrypted-meter"></span></div></div>
    <div class="tile wide"><h2>Throughput</h2><p class="figure" id="throughput">–</p>
    <svg id="spark" viewBox="0 0 120 28" preserveAspectRatio="none" aria-hidden="true"><path id="spark-fill"></path>
    <path id="spark-line"></path></svg></div>
    <div class="tile"><h2>Failed or denied</h2><p class="figure" id="failures">–</p><p class="quiet">since the start</p></div>
    </section>

    <section id="workloads" aria-labelledby="workloads-title">
    <h2 id="workloads-title">Workloads of this node <span class="count" id="workloads-count"></span></h2>
    <table class="cards">
    <caption class="hidden">Pods, who they are, what proves that they are captured, and their certificates</caption>
    <thead><tr><th scope="col">Pod</th><th scope="col">Enrolment</th><th scope="col">Identity</th>
    <th scope="col">Certificate</th><th scope="col" class="number">In</th><th scope="col" class="number">Out</th>
    <th scope="col" class="number">Plaintext</th></tr></thead>
    <tbody id="workload-rows"></tbody>
    </table>
    <p class="empty" id="workloads-empty" hidden>No pod has been handed over by the node agent yet.</p>
    </section>

    <section id="connections" aria-labelledby="connections-title">
    <div class="heading">
    <h2 id="connections-title">Connections <span class="count" id="connections-count"></span></h2>
    <form id="filter" role="search">
    <label for="search">Find</label>
    <input id="search" type="search" autocomplete="off" spellcheck="false" maxlength="128"
    placeholder="pod, service, address… ( / )">
    <label class="check"><input id="plaintext" type="checkbox"> plaintext only</label>
    </form>
    </div>
    <table class="cards" id="connection-table">
    <caption class="hidden">Live connections, the busiest first</caption>
    <thead><tr><th scope="col">Protection</th><th scope="col">From</th><th scope="col">To</th>
    <th scope="col" class="number">Sent</th><th scope="col" class="number">Received</th>
    <th scope="col" class="number">Age</th></tr></thead>
    <tbody id="connection-rows"></tbody>
    </table>
    <p class="empty" id="connections-empty" hidden></p>
    <p class="quiet" id="connections-more" hidden></p>
    </section>

    <section id="policies" aria-labelledby="policies-title">
    <h2 id="policies-title">Policies <span class="count" id="policies-count"></span></h2>
    <table class="cards">
    <caption class="hidden">Policies, and how often each decided</caption>
    <thead><tr><th scope="col">Policy</th><th scope="col">Action</th><th scope="col">Scope</th>
    <th scope="col" class="number">Rules</th><th scope="col" class="number">Allowed</th>
    <th scope="col" class="number">Denied</th><th scope="col" class="number">Dry run</th></tr></thead>
    <tbody id="policy-rows"></tbody>
    </table>
    <p class="empty" id="policies-empty" hidden>No policies: everything that reaches a pod is allowed.</p>
    <p class="quiet" id="policies-note" hidden></p>
    </section>

    <section id="explain" aria-labelledby="explain-title">
    <h2 id="explain-title">Explain a connection</h2>
    <form id="question">
    <label for="from">From pod</label>
    <input id="from" list="pod-names" required autocomplete="off" spellcheck="false" placeholder="shop/web"
    pattern="[^\\/\\s]+\\/[^\\/\\s]+">
    <label for="to">To</label>
    <input id="to" required autocomplete="off" spellcheck="false" placeholder="cart.shop:80">
    <button type="submit">Explain</button>
    <datalist id="pod-names"></datalist>
    </form>
    <div id="answer" aria-live="polite"></div>
    </section>
    </main>
    <footer>
    <p>On this port: <a href="/status?format=text">/status</a> <a href="/config_dump">/config_dump</a>
    <a href="/connections">/connections</a> <a href="/version">/version</a>
    <a href="/debug/pprof/heap">/debug/pprof/heap</a>; <code>POST /logging</code>, <code>POST /upgrade</code>,
    <code>POST /quitquitquit</code></p>
    <p id="version" class="quiet"></p>
    </footer>
    <noscript><p class="noscript">This page needs JavaScript; <a href="/status?format=text">/status</a> does not.</p></noscript>
    <script nonce="\(placeholder)">\(script)</script>
    </body>
    </html>

    """
}
