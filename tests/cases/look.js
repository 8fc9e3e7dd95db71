// What can be seen to be wrong with a page: { wide, clipped, faint }, each a list of texts.
(() => {
  const view = document.documentElement.clientWidth;
  const name = (e) => `${e.tagName.toLowerCase()}.${e.getAttribute("class") ?? ""} ${e.textContent.trim().slice(0, 40)}`;
  const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length;
  const scrolls = (e) => e.closest(".scroll") !== null;

  function parts(colour) {
    const found = colour.match(/[\d.]+/g).map(Number);
    return { rgb: found.slice(0, 3), alpha: found[3] ?? 1 };
  }
  function behind(e) {
    const layers = [];
    for (let at = e; at; at = at.parentElement) layers.push(parts(getComputedStyle(at).backgroundColor));
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    let colour = dark ? [0, 0, 0] : [255, 255, 255];
    for (const { rgb, alpha } of layers.reverse()) colour = colour.map((c, i) => c * (1 - alpha) + rgb[i] * alpha);
    return colour;
  }
  function light(rgb) {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function contrast(e) {
    const style = getComputedStyle(e);
    const ink = parts(e instanceof SVGElement ? style.fill : style.color).rgb;
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }

  const all = [...document.body.querySelectorAll("*")].filter((e) => seen(e) && !["SCRIPT", "OPTION"].includes(e.tagName));
  const wide = all.filter((e) => !scrolls(e) && (e.getBoundingClientRect().right > view + 1 || e.getBoundingClientRect().left < -1));
  const clipped = all.filter((e) => {
    if (e.matches(".scroll, .meter, input, select")) return false;
    if (e.tagName === "text") {
      const [box, frame] = [e.getBoundingClientRect(), e.ownerSVGElement.getBoundingClientRect()];
      return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
    }
    return getComputedStyle(e).overflow !== "visible" && e.clientWidth && e.scrollWidth > e.clientWidth + 1;
  });
  const inked = all.filter((e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim()));
  const faint = inked.filter((e) => e.tagName !== "title" && contrast(e) < 4.5);
  return {
    overflow: document.documentElement.scrollWidth - view,
    texts: inked.length,
    wide: wide.map(name),
    clipped: clipped.map(name),
    faint: faint.map((e) => `${contrast(e).toFixed(2)} ${name(e)}`),
  };
})()
