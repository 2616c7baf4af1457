"""How the page of what was learned looks."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5f6670; --page: #f6f7f8; --card: #fff; --line: #dfe2e6;
  --note: #fff4d6; --note-ink: #5c4400; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa2ad; --page: #141619; --card: #1d2024;
  --line: #32373d; --note: #3a3010; --note-ink: #ffe3a1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 1200px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .6rem; font-size: 1.15rem; }
h3 { margin: 0 0 .5rem; font-size: .95rem; font-weight: 600; overflow-wrap: anywhere; }
p { margin: .25rem 0 1rem; color: var(--soft); }
code { font: .9em ui-monospace, monospace; }
code span { display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
.note { padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.warning { border-color: transparent; background: var(--note); color: var(--note-ink); }
.card { padding: .8rem; border: 1px solid var(--line); border-radius: 12px; background: var(--card); }
.wide { max-width: 46rem; overflow-x: auto; }
.wide p { margin: .6rem 0 0; }
.wide .command { margin-top: .2rem; color: inherit; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 540px), 1fr)); }
.figures { columns: 2 440px; column-gap: 1rem; }
.figures > .card { margin-bottom: 1rem; break-inside: avoid; }
.figures svg { margin: 0 auto; }
.row { display: grid; gap: .5rem; align-items: start; grid-template-columns: repeat(2, 1fr); }
.row figure:last-child:nth-child(odd) { grid-column: span 2; }
@media (min-width: 640px) { .row figure:last-child:nth-child(odd) { grid-column: auto; }
  .row { grid-template-columns: repeat(auto-fit, minmax(90px, 1fr)); } }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--line); }
figcaption { margin-top: .2rem; color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; }
th { font-weight: 400; text-align: left; }
th[scope=col] { color: var(--soft); text-align: right; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
@media (max-width: 480px) { table { font-size: .9rem; } th, td { padding-right: .5rem; } .card { padding: .6rem; } }
th:last-child, td:last-child { padding-right: 0; }
tr:last-child th, tr:last-child td { border-bottom: 0; }
td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""
