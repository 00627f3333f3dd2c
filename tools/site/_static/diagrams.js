// Draws the diagrams of a page. They are on white in both color schemes, so one theme is enough.
mermaid.initialize({ startOnLoad: true, theme: "neutral", securityLevel: "strict" });
