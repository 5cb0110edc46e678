// Building and updating elements. Text only ever becomes text nodes.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = Symbol("drawn for");

/**
 * An element: attributes by name (`onclick` and the like are listeners; null, undefined and false are
 * left out), then children, which are nodes or texts.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else set(element, name, value);
  }
  element.append(
    ...children.filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Set an attribute, or take it away (null, undefined, false); nothing is touched that stays as it is. */
export function set(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value))
    element.setAttribute(name, value === true ? "" : value);
}

/** Set an element's text; nothing is touched that stays as it is. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Whether an element was last drawn for something else than this; it is from now on drawn for this. */
export function differs(element, ...state) {
  const key = JSON.stringify(state);
  if (element[DRAWN] === key) return false;
  element[DRAWN] = key;
  return true;
}

/** Text for screen readers alone. */
export const spoken = (text) => h("span", { class: "spoken" }, text);

/** Give `parent` one child for each item, in order; children are kept by key, moved only where they must be. */
export function reconcile(parent, items, { key, create, update = () => {} }) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const keys = new Set(items.map(key));
  const known = new Map();
  for (const child of [...parent.children]) {
    if (keys.has(child.dataset.key)) known.set(child.dataset.key, child);
    else child.remove();
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const element = known.get(key(item)) ?? create(item);
    element.dataset.key = key(item);
    update(element, item);
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  if (focused?.isConnected && document.activeElement !== focused)
    focused.focus({ preventScroll: true });
}

/** `render`, at most once for all the news of a moment. */
export function gathered(render) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    queueMicrotask(() => {
      due = false;
      render();
    });
  };
}

const ICONS = {
  back: "M15 5l-7 7 7 7",
  bell: "M6 17V11a6 6 0 0 1 12 0v6l1.5 1.5h-15zM10 21h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  checks: "M2 12.5L6.5 17 16 7.5M11.5 16l1 1L22 7.5",
  clock: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7v5l3.5 2",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 5v14M6 13l6 6 6-6",
  exit: "M10 4H5v16h5M14 8l4 4-4 4M18 12H9",
  eye: "M2 12s3.6-6.5 10-6.5S22 12 22 12s-3.6 6.5-10 6.5S2 12 2 12zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  group:
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 0 0 1 0 6M18 14a6 6 0 0 1 3.5 6",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5a7.5 7.5 0 0 1 15 0",
  plus: "M12 5v14M5 12h14",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
  send: "M4 12h15M13 6l6 6-6 6",
  talk: "M4 5h16v11H10l-4 4v-4H4z",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.5",
};

/** A drawn sign, for the eye alone. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}
