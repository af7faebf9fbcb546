const PATHS = {
  bell: "M6 16v-5a6 6 0 0 1 12 0v5l1.5 2h-15zM10 21h4",
  archive: "M4 5h16v4H4zM5.5 9v10h13V9M10 13h4",
  unarchive: "M5.5 9H4V5h16v4h-1.5M5.5 9v10h13V9M12 16V8M9 11l3-3 3 3",
  remove: "M4 7h16M9 7V4h6v3M6.5 7l1 13h9l1-13M10.5 11v5M13.5 11v5",
  preferences:
    "M10 5.7 10.2 3h3.6l.2 2.7 2.4 1.4L18.9 6l1.8 3-2.2 1.6v2.8l2.2 1.6-1.8 3-2.5-1.1-2.4 1.4-.2 2.7h-3.6L10 18.3l-2.4-1.4L5.1 18l-1.8-3 2.2-1.6v-2.8L3.3 9l1.8-3 2.5 1.1zM12 9.4a2.6 2.6 0 1 0 0 5.2 2.6 2.6 0 0 0 0-5.2z",
  asUnread: "M12 7.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9z",
} as const;

export function Icon({ name }: { readonly name: keyof typeof PATHS }) {
  return (
    <svg className="doorbell-icon" viewBox="0 0 24 24" aria-hidden="true" fill="none">
      <path
        d={PATHS[name]}
        stroke="currentColor"
        strokeWidth="1.8"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
