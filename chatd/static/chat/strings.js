// Every text that people read, in one place: to translate the client is to translate this file.

/** `one` where the number is 1, else `many`, each with the number in front. */
const counted = (number, one, many) => `${number} ${number === 1 ? one : many}`;

export const strings = {
  product: "chatd",

  signIn: {
    title: "Sign in",
    lead: "A new address makes a new account, where this server takes new ones.",
    email: "E-mail",
    password: "Password",
    submit: "Sign in",
    working: "Signing in …",
    ended: "Your session has ended. Sign in again to go on where you were.",
    erased: "Your account is erased.",
    badLink: "This link is no longer good. Sign in.",
    emailMissing: "Enter an e-mail address, such as ann@example.org.",
    passwordShort: "A password has at least 8 characters.",
  },

  line: {
    connecting: "Connecting …",
    connected: "Connected",
    offline: "This device is off line.",
    lost: "The connection is lost.",
    waiting: (seconds) => `Reconnecting in ${seconds} s`,
    trying: "Reconnecting …",
    retry: "Retry now",
    stopped: (reason) => `The server ended the connection: ${reason}.`,
    reconnect: "Reconnect",
    kept: (count) => `${counted(count, "message waits", "messages wait")} to be sent.`,
  },

  sidebar: {
    label: "Conversations and people",
    filter: "Filter, or find people and groups",
    filterShort: "Filter or find",
    conversations: "Conversations",
    noConversations: "None yet. Pick somebody, or find a group by typing its name in the filter.",
    online: "Online",
    nobodyOnline: "Nobody else is on line.",
    onlineUntold: "So many are on line that they are not listed. Find people by address.",
    people: "People found",
    groups: "Groups found",
    nothing: "Nothing found.",
    newGroup: "New group",
    signOut: "Sign out",
    notify: "Notifications",
    notifyDenied: "Notifications are blocked in the browser's settings for this page.",
    unread: "unread",
    you: "You: ",
    yourself: "You (notes to yourself)",
    isOnline: "on line",
    draft: "Draft: ",
    groupMark: "group",
    unsentTitle: "Sign out?",
    unsentText: (count) =>
      `${counted(count, "message has", "messages have")} not been sent yet, and would be dropped.`,
    unsentDrop: "Drop and sign out",
  },

  account: {
    title: "Your account",
    close: "Close",
    wrongPassword: "This password is wrong.",
    password: "Password",
    current: "Current password",
    new: "New password",
    newHint: "At least 8 characters.",
    again: "New password again",
    differs: "This is not the same as above.",
    change: "Change password",
    changing: "Changing …",
    changed: "Your password is changed. Everywhere else you are signed out.",
    data: "Your data",
    dataHint:
      "Your account, your one-to-one conversations, and what you wrote in groups, in one file.",
    download: "Download my data",
    downloading: "Downloading …",
    downloaded: (file) => `Your data is in ${file}.`,
    endTitle: "Erase your account",
    endHint: "Your account and your address go. What you wrote stays for others to read.",
    endPassword: "Your password",
    endPasswordMissing: "Enter your password.",
    end: "Erase my account",
    ending: "Erasing …",
    endQuestion: {
      title: "Erase your account?",
      text: "There is no way back. You leave all groups, and nobody can write to you any more.",
      action: "Erase for good",
    },
  },

  newGroup: {
    title: "New group",
    name: "Name",
    nameHint:
      "2 to 64 characters: a–z, 0–9, dot, underscore, hyphen. It becomes part of the address.",
    groupTitle: "Title (optional)",
    titleHint: "What people see, in any script.",
    create: "Create group",
    cancel: "Cancel",
  },

  conversation: {
    nothing: "No conversation is open",
    nothingHint:
      "Pick somebody who is on line, open a conversation, or find people and groups with the box at the top.",
    back: "Back to the list",
    loading: "Loading …",
    failed: (why) => `This conversation could not be loaded. ${why}`,
    retry: "Try again",
    group: (name) => `Group ${name}`,
    join: "Join",
    joinHint: (name) =>
      `You are not a member of ${name}. Members see everything that is written here.`,
    leave: "Leave",
    unknownGroup: (name) => `There is no group “${name}” yet.`,
    createGroup: "Create this group",
    unknownUser: (email) => `Nobody has signed up as ${email} yet.`,
    unknownUserHint: "Ask them to sign in once; then you can write to them, on line or not.",
    online: "on line",
    offline: "off line",
    gone: "This account no longer exists. Nobody can be written to here.",
    lastSeen: (when) => `last seen ${when}`,
    members: (count) => counted(count, "member", "members"),
    membersOnline: (count, online) =>
      `${counted(count, "member", "members")}, ${online} on line`,
    showMembers: "Members",
    closeMembers: "Close the list of members",
    you: "you",
  },

  messages: {
    label: "Messages",
    scroller: "History",
    empty: "Nothing has been written here yet.",
    first: "This is where the conversation starts.",
    new: "New messages",
    newest: "Jump to the newest",
    newestUnread: (count) => `Jump to the newest, ${counted(count, "new message", "new messages")}`,
    today: "Today",
    yesterday: "Yesterday",
    you: "You",
    failed: (why) => `Not sent. ${why}`,
    retry: "Send again",
    discard: "Discard",
    from: (author, text) => `${author}: ${text}`,
    removed: "This message was removed.",
    loadFailed: "More could not be loaded.",
  },

  ticks: {
    sending: "sending",
    stored: "stored",
    delivered: "delivered",
    read: "read",
    deliveredTo: (count, of) => `delivered to ${count} of ${of}`,
    readBy: (count, of) => `read by ${count} of ${of}`,
    details: "Who has it",
    deliveredNames: "Delivered to",
    readNames: "Read by",
    waitingNames: "Not yet delivered to",
    deliveredAt: (when) => `delivered ${when}`,
    readAt: (when) => `read ${when}`,
    close: "Close",
  },

  composer: {
    label: "Message",
    placeholder: "Write a message",
    send: "Send",
    left: (count) => `${count} left`,
    over: (count) => `${counted(count, "character", "characters")} too many`,
    typing: (names) =>
      names.length === 1
        ? `${names[0]} is typing …`
        : names.length === 2
          ? `${names[0]} and ${names[1]} are typing …`
          : `${names.length} people are typing …`,
    hint: "Enter sends, Shift and Enter starts a new line.",
  },

  errors: {
    unreachable: "The server can't be reached.",
    unexpected: (status) => `The server answered ${status}.`,
  },

  gone: {
    erased: "Erased person",
    deleted: "Deleted person",
  },

  skip: "Skip to the message box",
  pageTitle: (unread, place) => `${unread ? `(${unread}) ` : ""}${place ? `${place} · ` : ""}chatd`,
};
