// The style has no values of its own: it is imported for what it does.
export {};
