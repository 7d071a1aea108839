/// How the page looks, by day, by night, and on a phone.
extension NodePage {
  static let style = """
    :root { --page: #f5f6f8; --card: #fff; --ink: #16202e; --quiet: #56616f; --line: #dfe3e9; --accent: #1d4fd7;
      --good: #0b6b43; --good-ground: #def5e9; --bad: #b01730; --bad-ground: #fde7ea; --warn: #8a4b00;
      --warn-ground: #fdf0d8; --hover: #eef2fd; --shadow: 0 1px 2px rgb(20 30 50 / 8%); }
    @media (prefers-color-scheme: dark) { :root { --page: #0e1218; --card: #171d26; --ink: #e8edf4; --quiet: #9aa7b8;
      --line: #2a3442; --accent: #86a9ff; --good: #5fd39b; --good-ground: #10301f; --bad: #ff8d9c;
      --bad-ground: #3a141c; --warn: #f5bf5b; --warn-ground: #362508; --hover: #1e2736; --shadow: none; } }
    * { box-sizing: border-box; }
    html { scroll-padding-top: 6.5rem; }
    body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.45 system-ui, -apple-system, "Segoe UI",
      Roboto, "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
    h1, h2, p, ul, ol { margin: 0; padding: 0; }
    a { color: var(--accent); }
    code, .mono { font: 0.88em/1.45 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
    .quiet { color: var(--quiet); font-weight: 400; }
    .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
    .skip { position: absolute; left: -999rem; }
    .skip:focus { left: 1rem; top: 0.5rem; z-index: 9; background: var(--card); padding: 0.5rem 1rem; }
    :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
    main:focus { outline: none; }

    header { position: sticky; top: 0; z-index: 5; background: var(--card); border-bottom: 1px solid var(--line); }
    .bar { display: flex; align-items: center; gap: 0.9rem; padding: 0.7rem 1.4rem 0.35rem; }
    h1 { font-size: 1.15rem; font-weight: 650; flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis;
      white-space: nowrap; }
    .mark { display: inline-block; width: 0.95em; height: 0.95em; margin-right: 0.5em; vertical-align: -0.1em;
      border: 0.24em solid var(--accent); border-right-color: transparent; border-radius: 50%; }
    nav { display: flex; gap: 0.2rem; padding: 0 1rem 0.35rem; overflow-x: auto; }
    nav a { padding: 0.25rem 0.6rem; border-radius: 6px; text-decoration: none; color: var(--quiet); white-space: nowrap; }
    nav a:hover { background: var(--hover); color: var(--ink); }
    .pill { padding: 0.22rem 0.8rem; border-radius: 999px; font-weight: 600; white-space: nowrap; }
    .pill.good, .tag.good { color: var(--good); background: var(--good-ground); }
    .pill.bad, .tag.bad { color: var(--bad); background: var(--bad-ground); }
    .pill.waiting, .tag.warn { color: var(--warn); background: var(--warn-ground); }
    button { font: inherit; padding: 0.3rem 0.9rem; color: var(--ink); background: var(--card); border: 1px solid var(--quiet);
      border-radius: 7px; cursor: pointer; }
    button:hover { background: var(--hover); }
    button[aria-pressed="true"] { color: var(--card); background: var(--ink); }

    main { max-width: 88rem; margin: 0 auto; padding: 1.2rem 1.4rem; }
    section { margin-bottom: 1.8rem; }
    section > h2, .heading h2 { font-size: 1.05rem; font-weight: 650; margin-bottom: 0.6rem; }
    .count { color: var(--quiet); font-weight: 400; margin-left: 0.3em; }
    .problems { background: var(--bad-ground); border: 1px solid var(--bad); border-radius: 10px; padding: 0.8rem 1.1rem; }
    .problems h2 { color: var(--bad); margin-bottom: 0.3rem; }
    .problems ul { padding-left: 1.2rem; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 0.8rem; }
    .tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 0.75rem 1rem;
      box-shadow: var(--shadow); }
    .tile h2 { font-size: 0.85rem; font-weight: 500; color: var(--quiet); margin: 0; }
    .tile .quiet { font-size: 0.85rem; }
    .figure { font-size: 1.65rem; font-weight: 650; line-height: 1.3; }
    .tile.wide { grid-column: span 2; position: relative; overflow: hidden; }
    .tile.wide .figure { font-size: 1.3rem; line-height: 1.65; }
    #spark { position: absolute; left: 0; right: 0; bottom: 0; width: 100%; height: 2.3rem; }
    #spark-line { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
    #spark-fill { fill: var(--accent); opacity: 0.13; }
    .tile.wide { padding-bottom: 2.5rem; }
    .meter { height: 0.4rem; margin-top: 0.35rem; border-radius: 9px; background: var(--bad-ground); overflow: hidden; }
    .meter span { display: block; height: 100%; width: 0; background: var(--good); border-radius: 9px; }
    .meter.age { width: 7rem; background: var(--line); margin-top: 0.3rem; }
    .meter.age.low span { background: var(--bad); }

    table { width: 100%; border-collapse: separate; border-spacing: 0; background: var(--card); border: 1px solid var(--line);
      border-radius: 10px; box-shadow: var(--shadow); overflow: hidden; }
    th { text-align: left; font-size: 0.82rem; font-weight: 550; color: var(--quiet); padding: 0.5rem 0.8rem;
      border-bottom: 1px solid var(--line); white-space: nowrap; }
    td { padding: 0.5rem 0.8rem; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
    tbody tr:last-child td { border-bottom: 0; }
    tbody tr:hover { background: var(--hover); }
    .number { text-align: right; white-space: nowrap; }
    td.number { overflow-wrap: normal; }
    td .sub { display: block; font-size: 0.83rem; color: var(--quiet); }
    td .main { font-weight: 550; }
    #connection-table th:first-child { width: 12rem; }
    .tag { display: inline-block; padding: 0.05rem 0.55rem; border-radius: 6px; font-size: 0.83rem; font-weight: 600;
      white-space: nowrap; }
    .empty { padding: 1rem; color: var(--quiet); background: var(--card); border: 1px dashed var(--line);
      border-radius: 10px; margin-top: 0.5rem; }
    table[hidden] { display: none; }
    #connections-more, #policies-note { margin-top: 0.5rem; font-size: 0.88rem; }
    .heading { display: flex; flex-wrap: wrap; gap: 0.6rem 1.2rem; align-items: baseline; margin-bottom: 0.6rem; }
    .heading h2 { margin: 0; flex: 1; white-space: nowrap; }
    form { display: flex; flex-wrap: wrap; gap: 0.5rem 0.7rem; align-items: center; }
    input:not([type="checkbox"]) { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--quiet);
      border-radius: 7px; padding: 0.32rem 0.65rem; min-width: 16rem; max-width: 100%; }
    input::placeholder { color: var(--quiet); opacity: 1; }
    input[type="checkbox"] { width: 1.05rem; height: 1.05rem; accent-color: var(--accent); vertical-align: -0.15rem; }
    #answer { margin-top: 0.9rem; }
    .chain { list-style: none; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
    .chain li { display: grid; grid-template-columns: 1.5rem 7rem 1fr auto; padding: 0.4rem 0.9rem;
      border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
    .chain li:last-child { border-bottom: 0; }
    .chain .from { max-width: 22rem; padding-left: 1.5rem; font-size: 0.88rem; text-align: right; }
    .chain .good { color: var(--good); } .chain .bad { color: var(--bad); } .chain .warning { color: var(--warn); }
    .verdict { margin-bottom: 0.7rem; }
    .checks { margin: 0.7rem 0 0 1.2rem; }
    footer { border-top: 1px solid var(--line); padding: 1rem 1.4rem 2rem; max-width: 88rem; margin: 0 auto;
      font-size: 0.88rem; }
    footer a { margin-right: 0.4em; }
    .noscript { padding: 1rem 1.4rem; }
    body.stale main { opacity: 0.55; }

    @media (max-width: 46rem) {
      .bar { padding: 0.6rem 0.9rem 0.3rem; gap: 0.5rem; }
      nav { padding: 0 0.4rem 0.3rem; }
      main { padding: 0.8rem; }
      .tiles { grid-template-columns: 1fr 1fr; gap: 0.55rem; grid-auto-flow: dense; }
      .figure { font-size: 1.4rem; }
      table.cards, .cards tbody, .cards tr, .cards td { display: block; }
      .cards thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
      table.cards { background: none; border: 0; box-shadow: none; }
      .cards tr { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 0.5rem 0.8rem;
        margin-bottom: 0.5rem; }
      .cards td { border: 0; padding: 0.25rem 0; display: flex; gap: 0.8rem; text-align: left; white-space: normal; }
      .cards td::before { content: attr(data-name); flex: 0 0 5.6rem; color: var(--quiet); font-size: 0.85rem; }
      .cards td > div { min-width: 0; }
      .cards td.number { display: inline-flex; flex-direction: column; gap: 0; margin-right: 1.6rem; }
      .cards td.number::before { flex: none; }
      .heading form, #question { width: 100%; }
      input:not([type="checkbox"]) { flex: 1; min-width: 60%; }
      button { padding: 0.45rem 0.9rem; }
      .chain li { grid-template-columns: 1.4rem 1fr; }
      .chain .what, .chain .from { grid-column: 2; padding: 0; text-align: left; }
    }
    @media (prefers-reduced-motion: no-preference) {
      .meter span { transition: width 0.4s; }
      html { scroll-behavior: smooth; }
    }
    """
}
