    .text
/* Looks a function up with all arguments kept, and goes on in it. Its index lies on the stack. */
RESOLVE:
    push %rdi; push %rsi; push %rdx; push %rcx; push %r8; push %r9; push %rax
    sub $136, %rsp
    movaps %xmm0, (%rsp); movaps %xmm1, 16(%rsp); movaps %xmm2, 32(%rsp); movaps %xmm3, 48(%rsp)
    movaps %xmm4, 64(%rsp); movaps %xmm5, 80(%rsp); movaps %xmm6, 96(%rsp); movaps %xmm7, 112(%rsp)
    mov 192(%rsp), %rdi
    call LOOKUP
    mov %rax, %r11
    movaps (%rsp), %xmm0; movaps 16(%rsp), %xmm1; movaps 32(%rsp), %xmm2; movaps 48(%rsp), %xmm3
    movaps 64(%rsp), %xmm4; movaps 80(%rsp), %xmm5; movaps 96(%rsp), %xmm6; movaps 112(%rsp), %xmm7
    add $136, %rsp
    pop %rax; pop %r9; pop %r8; pop %rcx; pop %rdx; pop %rsi; pop %rdi
    add $8, %rsp
    jmp *%r11
    .section .note.GNU-stack,"",@progbits
    .bss
    .hidden SLOTS
    .globl SLOTS
    .balign 8
SLOTS:
    .zero SLOTS_SIZE
    .text
